"""``python -m pusa_core generate``: prompt and keyframes -> MP4 and contact sheet."""

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..media.text_encoder import load_text_encoder
from ..media.vae import Vae, load_vae
from ..media.video import contact_sheet, read_frames, resize_cover, write_video
from ..model.dit import WanModel
from ..model.parallel import from_first, is_first, parallelise, process_group
from ..sampling.keyframes import Given, latent_length
from ..sampling.pipeline import Keyframe, Settings, encode_keyframes, generate_latents
from ..sampling.sampler import StepCallback
from ..sampling.schedule import parse_noise_levels
from ..sampling.tasks import TASKS, read_task
from ..weights.demo_files import DEMO
from ..weights.load import ModelFiles, read_model_files
from .options import (
    ModelOptions,
    SamplingOptions,
    VideoOptions,
    add_model_flags,
    add_sampling_flags,
    add_video_flags,
    check_output,
    options_from,
)

log = logging.getLogger(__name__)

FPS = 16  # of Wan


@dataclass(frozen=True)
class GenerateOptions:
    out: Path
    video: VideoOptions
    sampling: SamplingOptions
    model: ModelOptions
    overwrite: bool = False
    fps: int = FPS

    def __post_init__(self) -> None:
        if self.out.suffix != ".mp4":
            raise ValueError(f'--out is "{self.out}"; it must end in .mp4')
        check_output([self.out, self.sheet], self.overwrite)

    @property
    def sheet(self) -> Path:
        return self.out.with_suffix(".png")


def add_generate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("generate", help="make a video", formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the MP4 to write; a contact sheet .png is written beside it")
    add("--overwrite", action="store_true", help="replace existing output files")
    add("--fps", type=int, default=FPS)
    add_video_flags(parser)
    add_sampling_flags(parser)
    add(
        "--given-frames-refresh",
        type=int,
        default=Settings.given_frames_refresh,
        metavar="STEPS",
        help="compute given frames without noise only every so many steps (default 1: every step; 0: only once).\n"
        "Faster where many frames are given, such as extension_41; what it costs: benchmarks/demo_model/REFRESH.md.",
    )
    add_model_flags(parser)
    parser.set_defaults(run=generate, options=generate_options)


def generate_options(args: argparse.Namespace) -> GenerateOptions:
    video, sampling = options_from(VideoOptions, args), options_from(SamplingOptions, args)
    return options_from(GenerateOptions, args, video=video, sampling=sampling, model=options_from(ModelOptions, args))


@dataclass(frozen=True)
class Inputs:
    """What a video is made from, read and checked; of the models, headers alone."""

    keyframes: list[Keyframe]
    settings: Settings
    noise_levels: str
    files: list[ModelFiles]


def read_inputs(video: VideoOptions, sampling: SamplingOptions, model: ModelOptions) -> Inputs:
    """Read what the options name. Cheap; whatever can be refused is refused here."""
    clips = [(position, read_frames(file), noise_level) for position, file, noise_level in video.keyframe]
    levels = video.noise_levels
    if video.task:
        clips = [(place.position, frames, 0.0) for place, frames in read_task(*video.task)]
        levels = TASKS[video.task[0]].noise_levels if levels is None else levels
    size = sampling.size or model.default_size
    if clips and sampling.size is None:
        height, width = clips[0][1].shape[1:3]
        size = width, height
    parse_noise_levels(levels or "", latent_length(sampling.frames))
    settings = sampling.settings(size)
    keyframes = [Keyframe(resize_cover(frames, *size), position, level) for position, frames, level in clips]
    return Inputs(keyframes, settings, levels or "", [read_model_files(*expert) for expert in model.experts])


@dataclass(frozen=True)
class Encoded:
    """Keyframes and prompts, encoded. ``negative`` is None without guidance, ``vae`` in every process but the first."""

    given: Given
    context: Tensor
    negative: Tensor | None
    vae: Vae | None


def encode_inputs(inputs: Inputs, video: VideoOptions, model: ModelOptions, device: str) -> Encoded:
    """Encode keyframes and prompts, in the first process for all."""
    first = is_first()
    prompts = from_first(encode_prompts(video, model, inputs.settings.cfg, device) if first else None)
    vae = load_vae(model.vae or DEMO, device=device) if first else None
    given = None if vae is None else encode_keyframes(vae, inputs.keyframes, inputs.settings, inputs.noise_levels)
    return Encoded(from_first(given), *prompts, vae)


def encode_prompts(video: VideoOptions, model: ModelOptions, cfg: float, device: str) -> tuple[Tensor, Tensor | None]:
    """The text encoder is as large as the DiT, and is freed again before the DiT is built."""
    encode = load_text_encoder(model.text_encoder or DEMO, device=device, dtype=model.torch_dtype)
    return encode(video.prompt), encode(video.negative) if cfg != 1 else None


def build_models(
    files: list[ModelFiles], model: ModelOptions, device: torch.device | str
) -> tuple[WanModel, WanModel | None]:
    """The network, and Wan2.2's low-noise expert where there is one."""
    models = [each.build(device, model.torch_dtype, offload=model.offload) for each in files]
    return models[0], models[1] if len(models) > 1 else None


@contextmanager
def progress_bar(steps: int) -> Iterator[StepCallback]:
    """A sampling callback that moves a progress bar, in the first process alone."""
    from tqdm import tqdm

    with tqdm(total=steps, desc="sampling", unit="step", disable=not is_first()) as bar:
        yield lambda *_: bar.update()


def generate(options: GenerateOptions) -> None:
    """Make the video and its contact sheet."""
    inputs = read_inputs(options.video, options.sampling, options.model)
    with process_group(options.model.device) as device:
        encoded = encode_inputs(inputs, options.video, options.model, device)
        model, low = build_models(inputs.files, options.model, device)
        with progress_bar(inputs.settings.steps) as report:
            latents = generate_latents(
                parallelise(model),
                encoded.given,
                encoded.context,
                encoded.negative,
                inputs.settings,
                low_noise_model=None if low is None else parallelise(low),
                callback=report,
                device=device,
            )
        if encoded.vae is not None:
            write_result(encoded.vae.decode(latents), options)


def write_result(frames: Tensor, options: GenerateOptions) -> None:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_video(frames, options.out, options.fps)
    contact_sheet(frames).save(options.sheet)
    log.info("wrote %s and %s", options.out, options.sheet)
