"""Flags and the frozen options they become. ``argparse`` goes no further than this file."""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..model.device import DTYPES, best_device, check_device, default_dtype
from ..model.fast_arithmetic import ATTENTIONS, DEFAULT, PRODUCTS
from ..sampling.pipeline import parse_keyframe
from ..sampling.settings import Settings
from ..sampling.tasks import TASKS, usage
from ..weights.demo_files import DEMO, DEMO_LONG, NAMES
from ..weights.demo_files import LORA_STRENGTH as DEMO_LORA_STRENGTH
from ..weights.load import LORA_STRENGTH
from ..weights.made_for_levels import MadeForLevels

_LORA = re.compile(r"(?P<file>.+?)(?::(?P<strength>-?\d*\.?\d+))?")
_SIZE = re.compile(r"(\d+)x(\d+)")

LoraFile = tuple[str, float]
T = TypeVar("T")


def options_from(kind: type[T], args: argparse.Namespace, **more: Any) -> T:
    """The frozen options ``kind`` of parsed flags of the same names, and of ``more``."""
    flags = {entry.name: getattr(args, entry.name) for entry in fields(kind) if hasattr(args, entry.name)}  # type: ignore[arg-type]
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in flags.items()}, **more)


def parsed_by(parse: Callable[[str], T]) -> Callable[[str], T]:
    """``parse`` as argparse's ``type``: its ``ValueError`` becomes a message about the flag."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def parse_lora(text: str) -> LoraFile:
    """``FILE`` or ``FILE:STRENGTH``."""
    match = _LORA.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not FILE or FILE:STRENGTH')
    default = DEMO_LORA_STRENGTH if match["file"] in NAMES else LORA_STRENGTH
    return match["file"], default if match["strength"] is None else float(match["strength"])


def parse_size(text: str) -> tuple[int, int]:
    """``WIDTHxHEIGHT``."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not WIDTHxHEIGHT, such as 832x480')
    return int(match[1]), int(match[2])


@dataclass(frozen=True)
class ModelOptions:
    """The model files of a command: paths, or ``"demo"``."""

    checkpoint: str | None = None
    checkpoint_low: str | None = None
    lora: tuple[LoraFile, ...] | None = None
    lora_low: tuple[LoraFile, ...] | None = None
    vae: str | None = None
    text_encoder: str | None = None
    device: str = "cpu"
    dtype: str | None = None
    offload: bool = False
    attention: str = DEFAULT
    products: str | None = None

    def __post_init__(self) -> None:
        """Raise where the files do not make a set, or one is missing."""
        if self.offload and self.products is not None:
            raise ValueError("--products changes weights that --offload moves about; use one of them")
        if self.checkpoint is not None and (self.vae is None or self.text_encoder is None):
            raise ValueError("--checkpoint needs --vae (Wan2.1 VAE) and --text-encoder (UMT5-XXL) with it")
        if self.checkpoint is None and (self.text_encoder is not None or self.checkpoint_low is not None):
            raise ValueError(
                "--text-encoder and --checkpoint-low need --checkpoint (a Wan text-to-video model) with them"
            )
        for path in (self.checkpoint, self.checkpoint_low, self.vae, self.text_encoder):
            if path is not None and path not in NAMES and not Path(path).exists():
                raise FileNotFoundError(f"no such file: {path}")
        check_device(self.device)

    @property
    def paths(self) -> list[str]:
        """All files of the model that the command reads, the demo's aside."""
        loras = [file for file, _ in [*(self.lora or ()), *(self.lora_low or ())]]
        named = [self.checkpoint, self.checkpoint_low, self.vae, self.text_encoder, *loras]
        return [path for path in named if path is not None and path not in NAMES]

    def for_long_videos(self) -> "ModelOptions":
        """The same; of the demo model, with its LoRA for windows of long videos beside the other."""
        if self.checkpoint is not None or self.lora is not None:
            return self
        return replace(self, lora=((DEMO, DEMO_LORA_STRENGTH), (DEMO_LONG, DEMO_LORA_STRENGTH)))

    @property
    def experts(self) -> list[tuple[str, tuple[LoraFile, ...]]]:
        """The checkpoint and LoRAs of the model, then those of Wan2.2's low-noise expert where there is one."""
        loras = self.lora or ()
        if self.checkpoint is None and self.lora is None:
            loras = ((DEMO, DEMO_LORA_STRENGTH),)
        files = [(self.checkpoint or DEMO, loras)]
        return files if self.checkpoint_low is None else [*files, (self.checkpoint_low, self.lora_low or ())]

    @property
    def torch_dtype(self) -> torch.dtype:
        return default_dtype(self.device) if self.dtype is None else DTYPES[self.dtype]

    @property
    def default_size(self) -> tuple[int, int]:
        """Width and height of a video for which nothing else says them."""
        return (64, 64) if self.checkpoint in (None, DEMO) else (Settings.width, Settings.height)


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    add, lora = parser.add_argument, parsed_by(parse_lora)
    add("--checkpoint", help="Wan T2V weights, with Wan2.2 the high-noise expert (default: the demo model)")
    add("--checkpoint-low", help="Wan2.2's low-noise expert")
    add(
        "--lora",
        type=lora,
        action="append",
        metavar="FILE[:STRENGTH]",
        help=f"LoRA for --checkpoint; repeatable; strength {LORA_STRENGTH} by default",
    )
    add("--lora-low", type=lora, action="append", metavar="FILE[:STRENGTH]", help="LoRA for --checkpoint-low")
    add("--vae", help="Wan2.1 VAE file")
    add("--text-encoder", help="UMT5-XXL file or folder")
    add("--device", default=best_device(), help="such as cuda, cuda:1, mps or cpu (default: the best there is)")
    add("--dtype", choices=DTYPES, help="of the DiT (default: bf16, on a CPU fp32)")
    add("--offload", action="store_true", help="keep the DiT's weights in main memory; the device holds two blocks")
    add(
        "--attention",
        choices=ATTENTIONS,
        default=DEFAULT,
        help="kernel: PyTorch's choice (default) or one of its own, all exact; or sage, in 8 bits (sageattention)",
    )
    add("--products", choices=PRODUCTS, help="compute the DiT's matrix products in 8 bits (torchao); less exact")


@dataclass(frozen=True)
class VideoOptions:
    """What the video shows. ``keyframe``: position, file, noise level of each; ``task``: its name, then its files."""

    prompt: str
    negative: str = ""
    task: tuple[str, ...] | None = None
    keyframe: tuple[tuple[int, Path, float], ...] = ()
    noise_levels: str | None = None
    mask: Path | None = None
    inset: str | None = None

    def __post_init__(self) -> None:
        """Raise where a task lacks the picture or place that it needs, or one is given for nothing."""
        if self.part == "mask" and self.mask is None:
            raise ValueError("task region needs --mask PICTURE: white is made anew, black is kept")
        if self.mask is not None and not self.paths:
            raise ValueError("--mask says what of a given clip is made anew; give one, such as --task region CLIP")
        if self.inset is not None and self.part != "margin":
            raise ValueError(
                "--inset is the place of the clip of task outpaint; leave it out, or use --task outpaint CLIP"
            )

    @property
    def part(self) -> str:
        """Which part of the frames is made anew (:class:`pusa_core.sampling.tasks.Task`)."""
        return TASKS[self.task[0]].part if self.task and self.task[0] in TASKS else ""

    @property
    def paths(self) -> list[str | Path]:
        """The pictures and clips that are given."""
        return [*(self.task or ())[1:], *(file for _, file, _ in self.keyframe)]

    @property
    def files(self) -> list[str | Path]:
        """All files that are read: those, and the mask."""
        return self.paths if self.mask is None else [*self.paths, self.mask]


def add_video_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--prompt", required=True, help="what the video shows")
    add("--negative", default="", help="negative prompt (used when cfg is not 1)")
    given = parser.add_mutually_exclusive_group()
    given.add_argument(
        "--task",
        nargs="+",
        metavar=("NAME", "FILE"),
        help="what to make, and the pictures and clips that are given for it:\n" + usage(),
    )
    given.add_argument(
        "--keyframe",
        type=parsed_by(parse_keyframe),
        action="append",
        default=[],
        metavar="POSITION=FILE[:NOISE]",
        help="a picture or clip that the video contains; repeatable.\nPOSITION: the latent frame (4 pixel frames each, "
        "the first 1) where it begins;\nnegative: where it ends, -1 being the last.\n"
        "NOISE: 0 keeps it as it is (default), 0.2 to 0.7 lets it change with the rest.",
    )
    add(
        "--mask",
        type=Path,
        metavar="FILE",
        help="a picture, or a clip as long as the video: white parts of given frames are made anew, black ones\n"
        "are kept, greys lie in between. A block of 16 x 16 pixels is taken as its whitest pixel.",
    )
    add(
        "--inset",
        metavar="WIDTHxHEIGHT[+X+Y]",
        help="size of the clip within the frame for outpaint, and its upper left corner; divisible by 16\n"
        "(default: its own size, in the middle)",
    )
    add("--noise-levels", help='of given latent frames, such as "0:0.3, -1:0.7" or a ramp "0-3:0..0.5"')


@dataclass(frozen=True)
class SamplingOptions:
    """Size, length and sampling of a video.

    ``size`` (width, height) is None where the first keyframe decides; ``steps``, ``cfg`` and ``shift`` where the
    checkpoint does.
    """

    size: tuple[int, int] | None = None
    frames: int = Settings.frames
    steps: int | None = None
    cfg: float | None = None
    shift: float | None = None
    seed: int = Settings.seed
    given_frames_refresh: int = Settings.given_frames_refresh

    def settings(self, size: tuple[int, int], family: MadeForLevels | None = None) -> Settings:
        """For a video of that width and height. Raises ``ValueError`` for values that make none."""
        chosen = {"steps": self.steps, "cfg": self.cfg, "shift": self.shift}
        values: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
        if family is not None:
            values = {"steps": family.steps, "cfg": family.cfg, "shift": family.shift, **values}
        values |= {"seed": self.seed, "given_frames_refresh": self.given_frames_refresh}
        return Settings(*size, self.frames, **values)


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--size",
        type=parsed_by(parse_size),
        help="WIDTHxHEIGHT, divisible by 16 (default: the first keyframe's, or the model's)",
    )
    add("--frames", type=int, default=Settings.frames, help="pixel frames, 4 n + 1 (default %(default)s)")
    other = "or what a SkyReels checkpoint was made for"
    add("--steps", type=int, help=f"sampling steps (default {Settings.steps}, {other})")
    add("--cfg", type=float, help=f"guidance scale (default {Settings.cfg:g}, {other}); 1 is twice as fast")
    add("--shift", type=float, help=f"of the noise schedule (default {Settings.shift:g}, {other})")
    add("--seed", type=int, default=Settings.seed, help=f"of the noise (default {Settings.seed})")
