"""Which part of given frames is made anew: from a mask, or from the place of a clip in a larger frame."""

import re
from dataclasses import dataclass
from os import PathLike

import torch
import torch.nn.functional as F
from torch import Tensor

from ..media.vae import STRIDE
from ..media.video import read_frames
from .keyframes import latent_length, pixel_frames_of
from .schedule import PATCH

TOKEN = STRIDE * PATCH  # pixels on each side of a token
GREYS = 15  # steps from black to white: the network tells 16 levels apart, and files are not exact
_INSET = re.compile(r"(\d+)x(\d+)(?:\+(\d+)\+(\d+))?")


def mask_levels(pictures: Tensor, frames: int, token: int = TOKEN) -> Tensor:
    """The noise levels ``[F, h, w]`` of a mask, on the token grid: white 1 (made anew), black 0 (kept), greys between.

    A token takes its whitest pixel, and a latent frame its whitest picture: all that is painted white is made anew, and
    only what is black throughout is kept exactly. Greys are rounded to sixteen levels.

    Args:
        pictures: ``[T, H, W]`` in 0..1: one for all frames, or one for each of the video's.
        frames: the number of pixel frames of the video.
        token: pixels on each side of a token.

    Raises ``ValueError`` for another number of pictures.
    """
    if len(pictures) not in (1, frames):
        raise ValueError(f"the mask has {len(pictures)} pictures; give one, or one for each of the {frames} frames")
    greys = (pictures * GREYS).round() / GREYS
    tokens = F.max_pool2d(greys[:, None], token)[:, 0]  # [T, h, w]
    if len(tokens) == 1:
        return tokens.expand(latent_length(frames), -1, -1)
    return torch.stack([tokens[list(pixel_frames_of(frame))].amax(dim=0) for frame in range(latent_length(frames))])


def read_mask(path: str | PathLike, size: tuple[int, int], frames: int) -> Tensor:
    """:func:`mask_levels` of a picture or clip, scaled to cover ``size`` (width, height) and cropped, as keyframes are.

    Raises ``FileNotFoundError``, or ``ValueError`` for a file that is neither.
    """
    return mask_levels(read_frames(path, size, first=frames + 1).mean(dim=-1), frames)


@dataclass(frozen=True)
class Inset:
    """The place of a clip in a larger frame: its size, and its upper left corner; pixels, divisible by 16."""

    width: int
    height: int
    x: int
    y: int

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @classmethod
    def parse(cls, text: str, frame: tuple[int, int]) -> "Inset":
        """``WIDTHxHEIGHT``, in the middle of ``frame`` (width, height), or ``WIDTHxHEIGHT+X+Y``.

        Raises ``ValueError`` for a place that is not within the frame, fills it, or is off the token grid.
        """
        match = _INSET.fullmatch(text)
        if match is None:
            raise ValueError(f'"{text}" is not WIDTHxHEIGHT or WIDTHxHEIGHT+X+Y, such as 480x272 or 480x272+176+104')
        width, height = int(match[1]), int(match[2])
        x, y = (
            (frame[axis] - side) // 2 // TOKEN * TOKEN if match[3] is None else int(match[3 + axis])
            for axis, side in enumerate((width, height))
        )
        inset = cls(width, height, x, y)
        wrong = [value for value in (width, height, x, y) if value % TOKEN]
        if wrong:
            raise ValueError(f"the clip's place {text} is not divisible by {TOKEN} ({wrong[0]}); use multiples of it")
        inside = min(x, y) >= 0 and x + width <= frame[0] and y + height <= frame[1]
        if not inside or min(width, height) < TOKEN or inset.size == frame:
            raise ValueError(
                f"a clip of {width} x {height} at {x}, {y} fills a frame of {frame[0]} x {frame[1]} or is not within "
                f"it; give a larger --size or a smaller --inset"
            )
        return inset

    def pad(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        """Frames ``[T, height, width, 3]`` in frames of ``size``, whose margins repeat the edges.

        What the margins show is made anew, but the VAE sees them when it encodes the pixels at the edges.
        """
        right, below = size[0] - self.x - self.width, size[1] - self.y - self.height
        channels_first = frames.permute(0, 3, 1, 2)
        return F.pad(channels_first, (self.x, right, self.y, below), mode="replicate").permute(0, 2, 3, 1)

    def levels(self, size: tuple[int, int], frames: int) -> Tensor:
        """Noise levels ``[F, h, w]`` for ``frames`` pixel frames: 0 within, 1 around."""
        levels = torch.ones(latent_length(frames), size[1] // TOKEN, size[0] // TOKEN)
        rows, columns = (
            slice(at // TOKEN, (at + side) // TOKEN) for at, side in ((self.y, self.height), (self.x, self.width))
        )
        levels[:, rows, columns] = 0.0
        return levels
