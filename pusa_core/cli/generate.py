"""``python -m pusa_core generate``: prompt and keyframes -> MP4 and contact sheet."""

import argparse
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..media.text_encoder import load_text_encoder
from ..media.vae import Vae, load_vae
from ..media.video import check_encoding, frame_size, read_frames
from ..model.dit import WanModel
from ..model.fast_arithmetic import use_8bit_products, use_attention
from ..model.parallel import from_first, is_first, parallelise, process_group
from ..sampling.keyframes import Given, latent_length
from ..sampling.masks import Inset, read_mask
from ..sampling.pipeline import Keyframe, Settings, encode_keyframes, generate_latents
from ..sampling.sampler import StepCallback
from ..sampling.schedule import parse_noise_levels
from ..sampling.tasks import TASKS, read_task
from ..storage.outputs import check_outputs, claim_outputs
from ..weights.demo_files import DEMO
from ..weights.load import ModelFiles, read_model_files
from .options import (
    ModelOptions,
    SamplingOptions,
    VideoOptions,
    add_model_flags,
    add_sampling_flags,
    add_video_flags,
    options_from,
)
from .output import FPS, VideoOutput, add_output_flags


@dataclass(frozen=True)
class GenerateOptions:
    """``own_fps``: the frame rate is that of the checkpoint, where it has one of its own."""

    output: VideoOutput
    video: VideoOptions
    sampling: SamplingOptions
    model: ModelOptions
    own_fps: bool = False

    def __post_init__(self) -> None:
        check_outputs(self.outputs, self.inputs, self.output.overwrite)

    @property
    def outputs(self) -> list[Path]:
        return [self.output.out, self.output.sheet, self.output.latents]

    @property
    def inputs(self) -> list[str | Path]:
        return [*self.video.files, *self.model.paths]

    def about(self, settings: Settings) -> dict[str, Any]:
        """What is written beside latents, as JSON's types."""
        prompts = {"prompt": self.video.prompt, "negative": self.video.negative}
        vae = self.model.vae
        return prompts | asdict(settings) | {"vae": str(Path(vae).resolve()) if vae not in (None, DEMO) else DEMO}


def add_generate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("generate", help="make a video", formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add_output_flags(parser)
    add("--fps", type=int, help=f"frames per second of the file (default: the model's, {FPS} for Wan)")
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
    output = VideoOutput(args.out, args.overwrite, FPS if args.fps is None else args.fps)
    model = options_from(ModelOptions, args)
    return GenerateOptions(output, video, sampling, model, own_fps=args.fps is None)


@dataclass(frozen=True)
class Inputs:
    """What a video is made from, read and checked; of the models, headers alone."""

    keyframes: list[Keyframe]
    settings: Settings
    noise_levels: str
    files: list[ModelFiles]
    mask: Tensor | None = None


def read_inputs(video: VideoOptions, sampling: SamplingOptions, model: ModelOptions) -> Inputs:
    """Read what the options name. Cheap; whatever can be refused is refused here."""
    size = sampling.size or model.default_size
    if video.paths and sampling.size is None:
        size = frame_size(video.paths[0])
    levels = video.noise_levels
    if video.task and levels is None and video.task[0] in TASKS:
        levels = TASKS[video.task[0]].noise_levels
    parse_noise_levels(levels or "", latent_length(sampling.frames))
    files = [read_model_files(*expert) for expert in model.experts]
    settings = sampling.settings(size, files[0].checkpoint.family)
    inset = None
    if video.part == "margin" and video.paths:
        inset = Inset.parse(video.inset or "{}x{}".format(*frame_size(video.paths[0])), size)
    keyframes = read_keyframes(video, settings, inset)
    return Inputs(keyframes, settings, levels or "", files, read_levels(video, settings, inset))


def read_levels(video: VideoOptions, settings: Settings, inset: Inset | None) -> Tensor | None:
    """The noise levels ``[F, h, w]`` of what is made anew of given frames; None where none is."""
    size = settings.width, settings.height
    levels = [] if video.mask is None else [read_mask(video.mask, size, settings.frames)]
    if inset is not None:
        levels.append(inset.levels(size, settings.frames))
    return torch.stack(levels).amax(dim=0) if levels else None


def read_keyframes(video: VideoOptions, settings: Settings, inset: Inset | None = None) -> list[Keyframe]:
    """The pictures and clips that are given, in the size of the video, or at ``inset`` in it."""
    size = settings.width, settings.height
    if video.task:
        places = read_task(*video.task, size=size if inset is None else inset.size)
        if inset is not None:
            places = [(place, inset.pad(frames, size)) for place, frames in places]
        return [Keyframe(frames, place.position) for place, frames in places]
    keyframes = []
    for position, file, level in video.keyframe:
        frames = read_frames(file, size, first=settings.frames + 1)
        if len(frames) > settings.frames:
            raise ValueError(f"{file} is longer than the video, which has {settings.frames} frames; shorten the clip")
        keyframes.append(Keyframe(frames, position, level))
    return keyframes


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
    if given is not None and inputs.mask is not None:
        given = given.masked(inputs.mask)
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
    for network in models:
        use_attention(network, model.attention)
        if model.products is not None:
            use_8bit_products(network, model.products)
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
    family = inputs.files[0].checkpoint.family
    output = options.output
    if options.own_fps and family is not None:
        output = replace(output, fps=family.fps)
    check_encoding(inputs.settings.width, inputs.settings.height, output.fps)
    with process_group(options.model.device) as device, claimed(options):
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
            output.write(latents, encoded.vae, options.about(inputs.settings))


def claimed(options: GenerateOptions) -> AbstractContextManager:
    """The outputs, claimed by the first process for all."""
    if is_first():
        return claim_outputs(options.outputs, options.inputs, options.output.overwrite)
    return nullcontext()
