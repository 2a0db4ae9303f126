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


def check_device(name: str) -> None:
    """Raise ``ValueError`` unless PyTorch can compute there."""
    try:
        if torch.device(name).type == "meta":
            raise ValueError("it holds no numbers")
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise ValueError(f'the device "{name}" cannot be used here ({reason}); use {best_device()}') from error
