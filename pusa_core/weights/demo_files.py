"""Where the embedded demo model lives; ``"demo"`` in place of a path means its file, ``"demo-long"`` its
second LoRA.

In a checkout that is ``demo/models``, in an installed package ``pusa_core/demo_models`` (package data). The folders are
named as ComfyUI names its own.
"""

from os import PathLike
from pathlib import Path

DEMO, DEMO_LONG = "demo", "demo-long"
NAMES = (DEMO, DEMO_LONG)
_INSTALLED = Path(__file__).parents[1] / "demo_models"
MODELS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "demo" / "models"
DIT = MODELS / "diffusion_models" / "pusa_demo_wan_t2v.safetensors"
LORA = MODELS / "loras" / "pusa_demo_lora.safetensors"
LONG_LORA = MODELS / "loras" / "pusa_demo_long_lora.safetensors"
"""Beside the other: for windows of long videos, in which an object may turn round."""
VAE = MODELS / "vae" / "pusa_demo_vae.safetensors"

LORA_STRENGTH = 1.0
"""Of the demo's LoRA. At the 1.4 of the published LoRAs, objects get lost far from given frames."""


def file_or_demo(path: str | PathLike, demo_file: Path) -> Path:
    """``path``, or ``demo_file`` for ``"demo"``. Raises ``FileNotFoundError`` where the demo model is not installed."""
    if path != DEMO:
        return Path(path)
    if not demo_file.is_file():
        raise FileNotFoundError(f"the demo model is not installed ({demo_file} is missing); give a checkpoint instead")
    return demo_file


def lora_file(path: str | PathLike) -> Path:
    """The file of a LoRA, which may be one of the demo's. Errors as of :func:`file_or_demo`."""
    return file_or_demo(DEMO, LONG_LORA) if path == DEMO_LONG else file_or_demo(path, LORA)
