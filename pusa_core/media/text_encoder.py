"""Text encoders: prompt -> the context that the DiT attends to."""

from os import PathLike
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..model.device import best_device, default_dtype
from ..weights.demo_files import DEMO
from .demo_text import encode_text


class TextEncoder(Protocol):
    """Prompt -> context ``[1, L, 4096]``, fp32, zero past the end of the prompt."""

    def __call__(self, text: str) -> Tensor: ...


def load_text_encoder(
    path: str | PathLike, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> TextEncoder:
    """Load UMT5-XXL, Wan's text encoder. It is as large as the DiT: encode first, drop it, then load the DiT.

    Args:
        path: a file as ComfyUI users have it (``umt5_xxl_fp16.safetensors``), a folder in the Hugging Face layout, or
            ``"demo"`` for the demo model's own encoder, which has no weights.
        device, dtype: as in :func:`pusa_core.load_model`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a umt5 file with its tokenizer.
        ImportError: the ``standalone`` extra (transformers) is not installed.
    """
    if path == DEMO:
        return encode_text
    from .umt5 import Umt5Encoder

    if not Path(path).exists():
        raise FileNotFoundError(f"no such file: {path}")
    device = best_device() if device is None else device
    return Umt5Encoder(path, device, dtype or default_dtype(device))
