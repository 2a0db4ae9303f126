"""The device for training and measuring the demo model: a GPU if there is one."""

import platform

import torch

from pusa_core.model.device import best_device

DEVICE = torch.device(best_device())


def machine() -> str:
    """Hardware and PyTorch version, for the header of a document."""
    if DEVICE.type == "cuda":
        name = torch.cuda.get_device_name()
    else:
        name = f"{platform.machine()}, {torch.get_num_threads()} threads"
    return f"{name}, torch {torch.__version__}"
