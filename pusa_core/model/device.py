"""Devices and number formats by name, and what to take where nothing is said."""

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def best_device() -> str:
    """``cuda``, else ``mps``, else ``cpu``: the first that PyTorch finds."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def default_dtype(device: torch.device | str) -> torch.dtype:
    """bf16 on an accelerator, fp32 on a CPU, where bf16 is slower."""
    return torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
