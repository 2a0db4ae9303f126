"""The model files of a command: its arguments for them, checks, and the models, VAE and text encoder they hold."""

import argparse
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..media.demo_text import encode_text
from ..model.dit import WanModel
from ..weights.checkpoints import Checkpoint, expected_shapes, read_checkpoint
from ..weights.demo_files import DIT as DEMO_CHECKPOINT
from ..weights.demo_files import LORA as DEMO_LORA
from ..weights.demo_files import VAE as DEMO_VAE
from ..weights.lora import Lora, load_lora, match_lora, merge_lora

if TYPE_CHECKING:
    from ..media.vae import WanVae

log = logging.getLogger(__name__)

LORA_STRENGTH = 1.4
DEMO_LORA_STRENGTH = 1.0  # higher, and objects get lost far from given frames

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_LORA = re.compile(r"(?P<file>.+?)(?::(?P<strength>-?\d*\.?\d+))?")


def lora_argument(text: str) -> tuple[Path, float]:
    match = _LORA.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f'"{text}" is not FILE or FILE:STRENGTH')
    return Path(match["file"]), float(match["strength"] or LORA_STRENGTH)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
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
    add("--offload", action="store_true", help="keep the DiT's weights in main memory; the device holds two blocks")


def check_model_arguments(args: argparse.Namespace) -> None:
    """Raise when the model files do not make a set, or one is missing."""
    if args.checkpoint is not None and (args.vae is None or args.text_encoder is None):
        raise ValueError("--checkpoint needs --vae (Wan2.1 VAE) and --text-encoder (UMT5-XXL) with it")
    if args.checkpoint is None and (args.text_encoder is not None or args.checkpoint_low is not None):
        raise ValueError("--text-encoder and --checkpoint-low need --checkpoint (a Wan text-to-video model) with them")
    for path in (args.checkpoint, args.checkpoint_low, args.vae, args.text_encoder):
        if path is not None and not path.exists():
            raise FileNotFoundError(f"no such file: {path}")


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


def offload(model: WanModel, device: str) -> None:
    """Leave the weights in main memory; each block's are brought to ``device`` while the block before it computes.

    Needs the ``standalone`` extra.
    """
    from diffusers.hooks import apply_group_offloading

    apply_group_offloading(
        model,
        onload_device=torch.device(device),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.startswith("cuda"),
    )


def read_models(args: argparse.Namespace) -> list[ModelFiles]:
    """The files of the model, then those of Wan2.2's low-noise expert where there is one."""
    loras = [(DEMO_LORA, DEMO_LORA_STRENGTH)] if args.checkpoint is None and args.lora is None else args.lora or []
    files = [ModelFiles.read(args.checkpoint or DEMO_CHECKPOINT, loras)]
    if args.checkpoint_low:
        files.append(ModelFiles.read(args.checkpoint_low, args.lora_low or []))
    return files


def build_models(args: argparse.Namespace, files: list[ModelFiles]) -> tuple[WanModel, WanModel | None]:
    """The networks of :func:`read_models`, ready to compute on ``--device``."""
    models = [each.build("cpu" if args.offload else args.device, dtype_of(args)) for each in files]
    if args.offload:
        for each in models:
            offload(each, args.device)
    return models[0], models[1] if len(models) > 1 else None


def dtype_of(args: argparse.Namespace) -> torch.dtype:
    return DTYPES[args.dtype or ("fp32" if args.device == "cpu" else "bf16")]


def load_text_encoder(args: argparse.Namespace) -> Callable[[str], Tensor]:
    """Prompt -> context ``[1, L, 4096]``. It is as large as the DiT; let it go before that is built."""
    if args.text_encoder is None:
        return encode_text
    from ..media.umt5 import Umt5Encoder  # needs the standalone extra

    return Umt5Encoder(args.text_encoder, args.device, dtype_of(args))


def load_vae(args: argparse.Namespace) -> "WanVae":
    from ..media.vae import WanVae  # needs the standalone extra

    return WanVae(args.vae or DEMO_VAE, args.device)
