"""Pictures made to fit a video's size."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .keyframes import check_size

CROP, PAD, REFUSE = "crop", "pad", "refuse"
FITS = (CROP, PAD, REFUSE)
SIDE = 16  # both sides of a video are multiples of it


def whole_size(width: int, height: int, side: int = SIDE) -> tuple[int, int]:
    """The largest size of a video that is not larger than a picture, in pixels: multiples of ``side``, at least one."""
    return max(side, width // side * side), max(side, height // side * side)


def fit_pictures(pictures: Tensor, size: tuple[int, int], how: str = CROP) -> Tensor:
    """``pictures [T, H, W, C]`` in 0..1 at ``size`` (width, height), with their proportions.

    ``how``: "crop" scales them to cover the size and cuts what sticks out at both sides; "pad" scales them to fit into
    it, with black bars at both sides; "refuse" raises ``ValueError`` with the size to resize to.
    """
    height, width = pictures.shape[1:3]
    check_size(*size)
    if how not in FITS:
        raise ValueError(f'resize is "{how}"; choose one of {", ".join(FITS)}')
    if (width, height) == size:
        return pictures
    if how == REFUSE:
        raise ValueError(
            f"image is {width} x {height} and the video {size[0]} x {size[1]}; resize the picture to {size[0]} x "
            f'{size[1]}, or set resize to "{CROP}" or "{PAD}"'
        )
    return torch.cat([_fit(picture, size, how) for picture in pictures.split(1)])  # one by one: a clip may be long


def _fit(picture: Tensor, size: tuple[int, int], how: str) -> Tensor:
    """One picture ``[1, H, W, C]``, as in :func:`fit_pictures`."""
    height, width = picture.shape[1:3]
    choose = max if how == CROP else min
    scale = choose(size[0] / width, size[1] / height)
    scaled = max(1, round(width * scale)), max(1, round(height * scale))
    channels = rearrange(picture, "b h w c -> b c h w").float()
    resized = F.interpolate(channels, (scaled[1], scaled[0]), mode="bicubic", antialias=True).clamp(0, 1)
    left, top = (size[0] - scaled[0]) // 2, (size[1] - scaled[1]) // 2  # negative where the picture sticks out
    placed = F.pad(resized, (left, size[0] - scaled[0] - left, top, size[1] - scaled[1] - top))
    return rearrange(placed, "b c h w -> b h w c").to(picture)
