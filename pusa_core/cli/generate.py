"""``python -m pusa_core generate``: prompt and keyframes -> MP4 and contact sheet."""

import argparse
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from tqdm import tqdm

from ..media.video import contact_sheet, read_frames, resize_cover, write_video
from ..model.dit import WanModel
from ..model.parallel import from_first, is_first, parallelise, process_group
from ..sampling.keyframes import Given, latent_length
from ..sampling.pipeline import Keyframe, Settings, Vae, encode_keyframes, generate_latents, parse_keyframe
from ..sampling.sampler import StepCallback
from ..sampling.schedule import parse_noise_levels
from ..sampling.tasks import TASKS, read_task, usage
from .model_files import (
    add_model_arguments,
    build_models,
    check_model_arguments,
    load_text_encoder,
    load_vae,
    read_models,
)

log = logging.getLogger(__name__)

_SIZE = re.compile(r"(\d+)x(\d+)")


def keyframe_argument(text: str) -> tuple[int, Path, float]:
    try:
        return parse_keyframe(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def size_argument(text: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f'"{text}" is not WIDTHxHEIGHT, such as 832x480')
    return int(match[1]), int(match[2])


def add_generate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("generate", help="make a video", formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the MP4 to write; a contact sheet .png is written beside it")
    add("--overwrite", action="store_true", help="replace existing output files")
    add("--fps", type=int, default=16)
    add(
        "--given-frames-refresh",
        type=int,
        default=Settings.given_frames_refresh,
        metavar="STEPS",
        help="compute given frames without noise only every so many steps (default 1: every step; 0: only once).\n"
        "Faster where many frames are given, such as extension_41; what it costs: benchmarks/demo_model/REFRESH.md.",
    )
    add_video_arguments(parser)
    add_sampling_arguments(parser)
    add_model_arguments(parser)
    parser.set_defaults(run=run_generate)


def add_video_arguments(parser: argparse.ArgumentParser) -> None:
    """What the video is to show: prompts and given frames."""
    add = parser.add_argument
    add("--prompt", required=True, help="what the video shows")
    add("--negative", default="", help="what to avoid (used when cfg is not 1)")
    given = parser.add_mutually_exclusive_group()
    given.add_argument(
        "--task",
        nargs="+",
        metavar=("NAME", "FILE"),
        help="what to make, and the pictures and clips that are given for it:\n" + usage(),
    )
    given.add_argument(
        "--keyframe",
        type=keyframe_argument,
        action="append",
        default=[],
        metavar="POSITION=FILE[:NOISE]",
        help="a picture or clip that the video contains; repeatable.\nPOSITION: the latent frame (4 pixel frames each, "
        "the first 1) where it begins;\nnegative: where it ends, -1 being the last.\n"
        "NOISE: 0 keeps it as it is (default), 0.2 to 0.7 lets it change with the rest.",
    )
    add("--noise-levels", help='of given latent frames, such as "0:0.3, -1:0.7" or a ramp "0-3:0..0.5"')
    add("--seed", type=int, default=0)


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--size",
        type=size_argument,
        help="WIDTHxHEIGHT, divisible by 16 (default: the first keyframe's, or the model's)",
    )
    add("--frames", type=int, default=81, help="pixel frames, 4 n + 1 (default 81)")
    add("--steps", type=int, default=10)
    add("--cfg", type=float, default=3.0, help="guidance scale (default 3.0); 1 is twice as fast")
    add("--shift", type=float, default=5.0, help="of the noise schedule (default 5.0)")


def model_size(args: argparse.Namespace) -> tuple[int, int]:
    """Width and height of a video for which nothing else says them."""
    return args.size or ((64, 64) if args.checkpoint is None else (Settings.width, Settings.height))


def read_keyframes(args: argparse.Namespace) -> tuple[list[Keyframe], tuple[int, int]]:
    """The keyframes in the video's size, and that size."""
    clips = [(position, read_frames(file), noise) for position, file, noise in args.keyframe]
    if args.task:
        clips = [(place.position, frames, 0.0) for place, frames in read_task(*args.task)]
    if clips and args.size is None:
        height, width = clips[0][1].shape[1:3]
    else:
        width, height = model_size(args)
    keyframes = [Keyframe(resize_cover(frames, width, height), position, noise) for position, frames, noise in clips]
    return keyframes, (width, height)


@dataclass(frozen=True)
class Job:
    """A video to make, everything read and encoded. Of several processes, only the first has a ``vae``."""

    settings: Settings
    given: Given
    context: Tensor
    negative: Tensor | None
    vae: Vae | None
    model: WanModel
    low: WanModel | None
    device: str

    def latents(
        self, callback: StepCallback | None = None, through: Callable[[WanModel], nn.Module] = parallelise
    ) -> Tensor:
        """Sample, with a progress bar; ``through`` puts something around each model that is called."""
        with tqdm(total=self.settings.steps, desc="sampling", unit="step", disable=not is_first()) as bar:

            def report(step: int, denoised: Tensor, latents: Tensor) -> None:
                bar.update()
                if callback is not None:
                    callback(step, denoised, latents)

            return generate_latents(
                through(self.model),
                self.given,
                self.context,
                self.negative,
                self.settings,
                low_noise_model=None if self.low is None else through(self.low),
                callback=report,
                device=self.device,
            )


@contextmanager
def prepared(args: argparse.Namespace) -> Iterator[Job]:
    """Check the arguments, then read and encode what they name; the cheap refusals come first.

    The processes that ``torchrun`` started are joined meanwhile.
    """
    keyframes, (width, height) = read_keyframes(args)
    levels = args.noise_levels
    if levels is None:
        levels = TASKS[args.task[0]].noise_levels if args.task else ""
    parse_noise_levels(levels, latent_length(args.frames))
    settings = Settings(
        width, height, args.frames, args.steps, args.cfg, args.shift, args.seed, args.given_frames_refresh
    )
    files = read_models(args)

    with process_group(args.device) as args.device:
        # of several processes the first encodes and decodes; the text encoder is as large as the DiT and goes before it
        first = is_first()
        prompts = from_first(encode_prompts(args) if first else None)
        vae = load_vae(args) if first else None
        given = from_first(encode_keyframes(vae, keyframes, settings, levels) if vae else None)
        yield Job(settings, given, *prompts, vae, *build_models(args, files), args.device)


def encode_prompts(args: argparse.Namespace) -> tuple[Tensor, Tensor | None]:
    """Context of the prompt, and of the negative prompt unless guidance is off."""
    encode = load_text_encoder(args)
    return encode(args.prompt), encode(args.negative) if args.cfg != 1 else None


def check_output(paths: list[Path], overwrite: bool) -> None:
    """Raise when a file to be written is there already."""
    for path in paths:
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; give another --out, or --overwrite")


def run_generate(args: argparse.Namespace) -> None:
    if args.out.suffix != ".mp4":
        raise ValueError(f'--out is "{args.out}"; it must end in .mp4')
    sheet = args.out.with_suffix(".png")
    check_output([args.out, sheet], args.overwrite)
    check_model_arguments(args)
    with prepared(args) as job:
        latents = job.latents()
        if job.vae is None:
            return
        frames = job.vae.decode(latents)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_video(frames, args.out, args.fps)
        contact_sheet(frames).save(sheet)
        log.info("wrote %s and %s", args.out, sheet)
