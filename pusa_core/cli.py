"""``python -m pusa_core generate``: prompt and keyframes -> MP4 and contact sheet."""

import argparse
import logging
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from .checkpoints import Checkpoint, expected_shapes, read_checkpoint
from .demo_text import encode_text
from .dit import WanModel
from .keyframes import latent_length
from .lora import Lora, load_lora, match_lora, merge_lora
from .media import contact_sheet, read_frames, resize_cover, write_video
from .pipeline import Keyframe, Settings, encode_keyframes, generate_latents
from .schedule import parse_noise_levels
from .tasks import TASKS, read_task, usage

if TYPE_CHECKING:
    from .vae import WanVae

log = logging.getLogger(__name__)

DEMO = Path(__file__).parents[1] / "demo" / "models"
DEMO_CHECKPOINT = DEMO / "diffusion_models" / "pusa_demo_wan_t2v.safetensors"
DEMO_LORA = DEMO / "loras" / "pusa_demo_lora.safetensors"
DEMO_VAE = DEMO / "vae" / "pusa_demo_vae.safetensors"
LORA_STRENGTH = 1.4

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_KEYFRAME = re.compile(r"(?P<position>-?\d+)=(?P<file>.+?)(?::(?P<noise>\d*\.?\d+))?")
_LORA = re.compile(r"(?P<file>.+?)(?::(?P<strength>-?\d*\.?\d+))?")
_SIZE = re.compile(r"(\d+)x(\d+)")


def keyframe_argument(text: str) -> tuple[int, Path, float]:
    match = _KEYFRAME.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f'"{text}" is not POSITION=FILE or POSITION=FILE:NOISE, such as 0=cat.png:0.2')
    noise = float(match["noise"] or 0)
    if noise > 1:
        raise argparse.ArgumentTypeError(f'"{text}": noise {noise:g} is outside 0 (keep as given) to 1 (generate)')
    return int(match["position"]), Path(match["file"]), noise


def lora_argument(text: str) -> tuple[Path, float]:
    match = _LORA.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f'"{text}" is not FILE or FILE:STRENGTH')
    return Path(match["file"]), float(match["strength"] or LORA_STRENGTH)


def size_argument(text: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f'"{text}" is not WIDTHxHEIGHT, such as 832x480')
    return int(match[1]), int(match[2])


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pusa_core", description="Pusa video generation without ComfyUI.")
    commands = parser.add_subparsers(dest="command", required=True)
    generate = commands.add_parser("generate", help="make a video", formatter_class=argparse.RawTextHelpFormatter)
    add = generate.add_argument
    add("--prompt", required=True, help="what the video shows")
    add("--negative", default="", help="what to avoid (used when cfg is not 1)")
    add("--out", type=Path, required=True, help="the MP4 to write; a contact sheet .png is written beside it")
    add("--overwrite", action="store_true", help="replace existing output files")
    given = generate.add_mutually_exclusive_group()
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
    add(
        "--size",
        type=size_argument,
        help="WIDTHxHEIGHT, divisible by 16 (default: the first keyframe's, or the model's)",
    )
    add("--frames", type=int, default=81, help="pixel frames, 4 n + 1 (default 81)")
    add("--steps", type=int, default=10)
    add("--cfg", type=float, default=3.0, help="guidance scale (default 3.0); 1 is twice as fast")
    add("--shift", type=float, default=5.0, help="of the noise schedule (default 5.0)")
    add("--seed", type=int, default=0)
    add("--fps", type=int, default=16)
    add("--checkpoint", type=Path, help="Wan T2V weights, with Wan2.2 the high-noise expert (default: the demo model)")
    add("--checkpoint-low", type=Path, help="Wan2.2's low-noise expert")
    add(
        "--lora",
        type=lora_argument,
        action="append",
        metavar="FILE[:STRENGTH]",
        help=f"LoRA for --checkpoint; repeatable; strength {LORA_STRENGTH} by default",
    )
    add("--lora-low", type=lora_argument, action="append", metavar="FILE[:STRENGTH]", help="LoRA for --checkpoint-low")
    add("--vae", type=Path, help="Wan2.1 VAE file")
    add("--text-encoder", type=Path, help="UMT5-XXL file or folder")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--dtype", choices=DTYPES, help="of the DiT (default: bf16 on a GPU, fp32 on a CPU)")
    generate.set_defaults(run=run_generate)
    return parser


@dataclass(frozen=True)
class ModelFiles:
    """A checkpoint and its LoRAs, read and checked against each other; the weights are still on disk (mapped)."""

    checkpoint: Checkpoint
    loras: list[tuple[Lora, float]]

    @classmethod
    def read(cls, path: Path, loras: list[tuple[Path, float]]) -> "ModelFiles":
        checkpoint = read_checkpoint(path)
        shapes = dict(expected_shapes(checkpoint.config))
        read = [(load_lora(file), strength) for file, strength in loras]
        for lora, _ in read:
            log.info("%s", match_lora(lora, shapes).describe())
        return cls(checkpoint, read)

    def build(self, device: str, dtype: torch.dtype) -> WanModel:
        with torch.device("meta"):
            model = WanModel(self.checkpoint.config)
        # one weight after the other, so that a quantised file is never there twice in a larger format
        weights = {name: weight.to(device, dtype) for name, weight in self.checkpoint.dequantised()}
        model.load_state_dict(weights, assign=True)
        model = model.eval().requires_grad_(False)
        for lora, strength in self.loras:
            merge_lora(model, lora, strength)
        return model


def encode_prompts(args: argparse.Namespace, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Context of the prompt, and of the negative prompt unless guidance is off."""
    encode: Callable[[str], Tensor] = encode_text
    if args.text_encoder is not None:
        from .text import Umt5Encoder

        encode = Umt5Encoder(args.text_encoder, args.device, dtype)
    return encode(args.prompt), encode(args.negative) if args.cfg != 1 else None


def load_vae(args: argparse.Namespace) -> "WanVae":
    from .vae import WanVae  # needs the standalone extra

    return WanVae(args.vae or DEMO_VAE, args.device)


def check_files(args: argparse.Namespace) -> None:
    """Raise when the model files do not make a set, or the output would overwrite something."""
    if args.out.suffix != ".mp4":
        raise ValueError(f'--out is "{args.out}"; it must end in .mp4')
    for path in (args.out, args.out.with_suffix(".png")):
        if path.exists() and not args.overwrite:
            raise FileExistsError(f"{path} exists; give another --out, or --overwrite")
    if args.checkpoint is not None and (args.vae is None or args.text_encoder is None):
        raise ValueError("--checkpoint needs --vae (Wan2.1 VAE) and --text-encoder (UMT5-XXL) with it")
    if args.checkpoint is None and (args.text_encoder is not None or args.checkpoint_low is not None):
        raise ValueError("--text-encoder and --checkpoint-low need --checkpoint (a Wan text-to-video model) with them")
    for path in (args.checkpoint, args.checkpoint_low, args.vae, args.text_encoder):
        if path is not None and not path.exists():
            raise FileNotFoundError(f"no such file: {path}")


def read_keyframes(args: argparse.Namespace) -> tuple[list[Keyframe], tuple[int, int]]:
    """The keyframes in the video's size, and that size."""
    clips = [(position, read_frames(file), noise) for position, file, noise in args.keyframe]
    if args.task:
        clips = [(place.position, frames, 0.0) for place, frames in read_task(*args.task)]
    if args.size is not None:
        width, height = args.size
    elif clips:
        height, width = clips[0][1].shape[1:3]
    else:
        width, height = (64, 64) if args.checkpoint is None else (Settings.width, Settings.height)
    keyframes = [Keyframe(resize_cover(frames, width, height), position, noise) for position, frames, noise in clips]
    return keyframes, (width, height)


def run_generate(args: argparse.Namespace) -> None:
    check_files(args)
    keyframes, (width, height) = read_keyframes(args)
    levels = args.noise_levels
    if levels is None:
        levels = TASKS[args.task[0]].noise_levels if args.task else ""
    parse_noise_levels(levels, latent_length(args.frames))
    settings = Settings(width, height, args.frames, args.steps, args.cfg, args.shift, args.seed)

    loras = [(DEMO_LORA, LORA_STRENGTH)] if args.checkpoint is None and args.lora is None else args.lora or []
    files = ModelFiles.read(args.checkpoint or DEMO_CHECKPOINT, loras)
    low_files = ModelFiles.read(args.checkpoint_low, args.lora_low or []) if args.checkpoint_low else None

    # the text encoder is as large as the DiT: it is gone before the DiT is built
    dtype = DTYPES[args.dtype or ("fp32" if args.device == "cpu" else "bf16")]
    context, negative = encode_prompts(args, dtype)
    vae = load_vae(args)
    given = encode_keyframes(vae, keyframes, settings, levels)
    model = files.build(args.device, dtype)
    low = low_files.build(args.device, dtype) if low_files else None
    with tqdm(total=settings.steps, desc="sampling", unit="step") as bar:
        latents = generate_latents(
            model, given, context, negative, settings, low_noise_model=low, callback=lambda *_: bar.update()
        )
    frames = vae.decode(latents)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_video(frames, args.out, args.fps)
    contact_sheet(frames).save(args.out.with_suffix(".png"))
    log.info("wrote %s and %s", args.out, args.out.with_suffix(".png"))


def join_negative_positions(arguments: list[str]) -> list[str]:
    """``--keyframe -1=end.png`` in one piece: argparse takes a value that begins with - for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in ("--keyframe", "--noise-levels") and argument.startswith("-"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def main(arguments: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(join_negative_positions(sys.argv[1:] if arguments is None else arguments))
    try:
        args.run(args)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
