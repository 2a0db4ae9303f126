"""``python -m pusa_core join``, ``retake`` and ``loop``: new frames between the frames of clips."""

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..media.clip import Clip
from ..media.text_encoder import load_text_encoder
from ..media.vae import load_vae
from ..media.video import check_encoding, picture_grid, to_uint8, write_pictures
from ..sampling.bridge import Bridge
from ..sampling.fit import whole_size
from ..sampling.keyframes import STRIDE, latent_length
from ..sampling.pipeline import Keyframe, encode_keyframes, generate_latents
from ..sampling.settings import Settings
from ..storage.atomic import write_whole
from ..storage.outputs import check_outputs, claim_outputs
from ..weights.demo_files import DEMO
from ..weights.load import read_model_files
from .generate import build_models, progress_bar
from .options import ModelOptions, SamplingOptions, add_model_flags, add_sampling_flags, options_from
from .output import FPS, VideoOutput, add_output_flags

log = logging.getLogger(__name__)

NEW_SECONDS = 2.0


@dataclass(frozen=True)
class Gap:
    """Where ``new`` frames go: after the first ``until`` of one clip, before those of the other from ``resume`` on.

    ``loops``: the other is the same clip, and not shown again.
    """

    first: Clip
    second: Clip
    until: int
    resume: int
    new: int
    loops: bool = False


@dataclass(frozen=True)
class BridgeOptions:
    """``clips``: one or two. ``start``, ``end``: of the span of a retake, seconds. ``seconds``: of new frames else."""

    output: VideoOutput
    clips: tuple[str, ...]
    prompt: str
    sampling: SamplingOptions
    model: ModelOptions
    negative: str = ""
    seconds: float = NEW_SECONDS
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        check_outputs(self.outputs, self.inputs, self.output.overwrite)

    @property
    def outputs(self) -> list[Path]:
        return [self.output.out, self.output.sheet]

    @property
    def inputs(self) -> list[str]:
        return [*self.clips, *self.model.paths]


def add_bridges(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The three commands."""
    join = commands.add_parser("join", help="join two clips by new frames")
    join.add_argument("clips", nargs=2, metavar="CLIP", help="the clips, in order")
    loop = commands.add_parser("loop", help="make a clip loop: new frames lead from its end to its start")
    loop.add_argument("clips", nargs=1, metavar="CLIP", help="the clip")
    retake = commands.add_parser("retake", help="make a span of a clip anew")
    retake.add_argument("clips", nargs=1, metavar="CLIP", help="the clip")
    retake.add_argument("--start", type=float, required=True, metavar="SECONDS", help="where the span begins")
    retake.add_argument("--end", type=float, required=True, metavar="SECONDS", help="where it ends")
    for parser in (join, loop, retake):
        add = parser.add_argument
        add("--prompt", required=True, help="what the new frames show")
        add("--negative", default="", help="negative prompt (used when cfg is not 1)")
        if parser is not retake:
            add("--seconds", type=float, default=NEW_SECONDS, help="of new frames (default %(default)s)")
        add_output_flags(parser)
        add("--fps", type=int, default=FPS, help="frames per second of the model and the file (default %(default)s)")
        add_sampling_flags(parser)
        add_model_flags(parser)
        parser.set_defaults(run=bridge, options=bridge_options)


def bridge_options(args: argparse.Namespace) -> BridgeOptions:
    parts = {"output": VideoOutput, "sampling": SamplingOptions}
    made: dict[str, Any] = {name: options_from(kind, args) for name, kind in parts.items()}
    return options_from(BridgeOptions, args, model=options_from(ModelOptions, args).for_long_videos(), **made)


def find_gap(options: BridgeOptions) -> Gap:
    """Read the clips, and say where new frames go. Raises ``ValueError`` for a span that is not in the clip."""
    fps = options.output.fps
    clips = [Clip.open(Path(path), fps) for path in options.clips]
    first, second = clips[0], clips[-1]
    if options.start is None or options.end is None:
        new = STRIDE * round(options.seconds * fps / STRIDE) if 0 < options.seconds < 60 else 0
        if new < STRIDE:
            raise ValueError(f"--seconds is {options.seconds:g}; give the length of the new part, such as 2")
        return Gap(first, second, first.frames, 0, new, loops=len(clips) == 1)
    length = first.frames / fps
    if not 0 < options.start < options.end < length:
        raise ValueError(
            f"the span from {options.start:g} s to {options.end:g} s is not within {first.path}, which has "
            f"{length:g} s; --start must be above 0 and before --end, --end before its end"
        )
    until = max(1, round(options.start * fps))
    new = max(STRIDE, STRIDE * round((options.end - options.start) * fps / STRIDE))
    return Gap(first, second, until, until + new, new)


def bridge(options: BridgeOptions) -> None:
    """Make the frames of the gap, and the video with the clips around it."""
    gap = find_gap(options)
    size = options.sampling.size or whole_size(*gap.first.size)
    window = latent_length(options.sampling.frames)
    room = Bridge.of(gap.new, gap.until, gap.second.frames - gap.resume, window)
    files = [read_model_files(*expert) for expert in options.model.experts]
    settings = replace(options.sampling.settings(size, files[0].checkpoint.family), frames=room.frames)
    check_encoding(*size, options.output.fps)
    with claim_outputs(options.outputs, options.inputs, options.output.overwrite):
        new = make_new(options, gap, room, settings, files)
        sound = gap.first.path
        if gap.second is not gap.first:
            log.warning("the sound of %s is left out: the video has that of the first clip", gap.second.path)
        output = options.output
        write_pictures(around(gap, new, size), size, output.out, output.fps, sound=sound, replace=output.overwrite)
        write_whole(output.sheet, sheet(gap, new, size).save, replace=output.overwrite)
    log.info("wrote %s and %s", *options.outputs)


def make_new(options: BridgeOptions, gap: Gap, room: Bridge, settings: Settings, files: list) -> np.ndarray:
    """The new frames ``[T, H, W, 3]`` uint8."""
    model, size = options.model, (settings.width, settings.height)
    before = gap.first.between(gap.until - room.frames_before, gap.until, size)
    after = gap.second.between(gap.resume, gap.resume + room.frames_after, size)
    vae = load_vae(model.vae or DEMO, device=model.device)
    keyframes = [Keyframe(_in_unit(before), 0), Keyframe(_in_unit(after), -1)]
    given = encode_keyframes(vae, keyframes, settings, room.noise_levels)
    encode = load_text_encoder(model.text_encoder or DEMO, device=model.device, dtype=model.torch_dtype)
    context, negative = encode(options.prompt), encode(options.negative) if settings.cfg != 1 else None
    del encode
    network, low = build_models(files, model, model.device)
    with progress_bar(settings.steps) as report:
        latents = generate_latents(
            network, given, context, negative, settings, low_noise_model=low, callback=report, device=model.device
        )
    frames = vae.decode(latents)[room.frames_before : room.frames_before + gap.new]
    return to_uint8(frames)


def around(gap: Gap, new: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """All frames of the video: those of the clips are their own, whatever the noise levels."""
    second = [] if gap.loops else islice(gap.second.pictures(size), gap.resume, None)
    return chain(islice(gap.first.pictures(size), gap.until), new, second)


def sheet(gap: Gap, new: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """The frames at both seams, and three of the new ones."""
    last = gap.first.between(gap.until - 1, gap.until, size)
    then = gap.second.between(gap.resume, gap.resume + 1, size)
    shown = [*last, new[0], new[len(new) // 2], new[-1], *then]
    labels = ["before", "first new", "middle", "last new", "after"]
    return picture_grid([Image.fromarray(picture) for picture in shown], labels)


def _in_unit(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).float() / 255
