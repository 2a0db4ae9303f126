"""Figures as IMAGE, and paths for result files in ComfyUI's output folder."""

from pathlib import Path

import folder_paths
import numpy as np
import torch
from PIL import Image
from torch import Tensor


def as_image(picture: Image.Image) -> Tensor:
    """Convert to IMAGE ``[1, H, W, 3]``."""
    return torch.from_numpy(np.asarray(picture.convert("RGB")).astype(np.float32) / 255)[None]


def free_stem(prefix: str) -> Path:
    """An unused path in the output folder, without suffix. Raises if ``prefix`` points outside of it."""
    folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    return Path(folder) / f"{name}_{counter:05}_"
