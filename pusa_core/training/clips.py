"""The clips of a data set folder: discovery, captions, decoding."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..media.decode import VIDEOS, shown_frames
from .captions import read_caption, read_metadata
from .files import exists

TICK = 1e-3  # seconds; Matroska rounds timestamps to milliseconds

Skip = Callable[[str, str], None]
"""``skip(file, reason)``: a clip that cannot be used."""


@dataclass(frozen=True)
class Clip:
    path: Path
    caption: str


def find_clips(folder: Path, skip: Skip, allow_outside: bool = False) -> list[Clip]:
    """The clips with captions in ``folder``, sorted by name; others are reported to ``skip``.

    The clips listed in ``metadata.csv`` or ``metadata.jsonl`` (``file_name``, ``text``) if there is one, otherwise
    every video with a ``.txt`` of the same name. ``allow_outside``: the metadata may name files that are not in it.

    Raises ``ValueError`` when the metadata cannot be read.
    """
    clips = []
    for path, caption in sorted(_listed(folder, skip, allow_outside)):
        if not exists(path, Path.is_file):
            skip(path.name, "listed in the metadata, but there is no such file")
        elif not caption.strip():
            skip(path.name, f"no caption; write one into {path.with_suffix('.txt').name}, or into the metadata")
        else:
            clips.append(Clip(path, " ".join(caption.split())))
    return clips


def _listed(folder: Path, skip: Skip, allow_outside: bool) -> Iterator[tuple[Path, str]]:
    listed = read_metadata(folder, allow_outside)
    if listed is not None:
        yield from listed
        return
    for path in folder.iterdir():
        if path.name.startswith(".") or path.suffix.lower() == ".txt":
            continue
        if path.suffix.lower() not in VIDEOS or not path.is_file():
            skip(path.name, "a folder; clips are read from the folder itself" if path.is_dir() else "not a video")
            continue
        try:
            yield path, read_caption(path.with_suffix(".txt"))
        except (ValueError, OSError) as error:
            skip(path.name, str(error))


def nearest_size(size: tuple[int, int], sizes: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The bucket of ``sizes`` with the aspect ratio nearest to that of ``size``."""
    shape = size[0] / size[1]
    return min(sizes, key=lambda other: max(shape * other[1] / other[0], other[0] / other[1] / shape))


def read_clip(path: Path, size: tuple[int, int], frames: int, fps: float) -> Tensor:
    """The first ``frames`` frames, scaled to cover ``size`` and cropped: ``[frames, H, W, 3]`` fp32 in 0..1.

    With ``fps``, resampled to that rate by timestamp; otherwise every frame of the file.
    Raises ``ValueError`` when the file is too short or cannot be decoded.
    """
    pictures: list[np.ndarray] = []
    for picture in _at_rate(shown_frames(path), fps):
        pictures.append(picture.pixels(size))
        if len(pictures) == frames:
            return torch.from_numpy(np.stack(pictures)).float() / 255
    rate = f" at {fps:g} frames per second" if fps else ""
    raise ValueError(f"too short: {len(pictures)} frames{rate}, {frames} are needed")


def _at_rate(decoded: Iterator, fps: float) -> Iterator:
    """Resample to ``fps``: at every tick of ``1 / fps`` seconds, the frame that is displayed then."""
    if not fps:
        yield from decoded
        return
    start, shown, gap, ticks = 0.0, None, 0.0, 0

    def until(end: float) -> Iterator:
        nonlocal ticks
        while start + ticks / fps < end - TICK:
            yield shown
            ticks += 1

    for picture in decoded:
        if picture.time is None:
            raise ValueError("its frames carry no times; set data.fps to 0, or save it as MP4")
        if shown is None:
            start = picture.time
        else:
            yield from until(picture.time)
            gap = picture.time - shown.time
        shown = picture
    if shown is not None:
        yield from until(shown.time + (gap or 1 / fps))  # the last frame is displayed as long as the one before
