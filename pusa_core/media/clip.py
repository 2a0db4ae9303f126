"""A clip at another frame rate: which of its frames is shown when, by their timestamps."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from .decode import Shown, shown_frames, shown_rate

MAX_SECONDS = 24 * 3600.0
_ROUNDING = 1e-3  # seconds; Matroska rounds timestamps to milliseconds
_USUAL_RATE = 16.0  # of a clip that says neither times nor a rate


@dataclass(frozen=True)
class Clip:
    """A picture or clip of ``frames`` pixel frames at ``fps``; read again for every use, never held whole.

    ``size``: width and height of its frames as they are shown.
    """

    path: Path
    fps: int
    frames: int
    size: tuple[int, int]

    @classmethod
    def open(cls, path: Path, fps: int) -> "Clip":
        """Count the frames. Raises ``FileNotFoundError``, or ``ValueError`` where there are none, or sizes differ."""
        if not path.is_file():
            raise FileNotFoundError(f"no such file: {path}")
        frames, size = 0, None
        for shown in resampled(path, fps):
            if size is not None and shown.size != size:
                raise ValueError(f"{path} changes its size on the way; convert it to one size")
            frames, size = frames + 1, shown.size
        if size is None:
            raise ValueError(f"{path} holds no video frame; give a clip or a picture that has one")
        return cls(path, fps, frames, size)

    @property
    def name(self) -> str:
        return str(self.path)

    def pictures(self, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Its frames ``[H, W, 3]`` uint8 at a size (width, height)."""
        return (fitted(shown, size) for shown in resampled(self.path, self.fps))

    def between(self, start: int, stop: int, size: tuple[int, int]) -> np.ndarray:
        """Its frames ``start ... stop - 1`` as ``[T, H, W, 3]`` uint8."""
        shown = islice(resampled(self.path, self.fps), start, stop)
        return np.stack([fitted(each, size) for each in shown])

    def last(self, count: int, size: tuple[int, int]) -> np.ndarray:
        """Its last ``count`` frames."""
        return self.between(self.frames - count, self.frames, size)


def fitted(shown: Shown, size: tuple[int, int]) -> np.ndarray:
    """A frame at ``size`` (width, height): cut where only some pixels stick out, else scaled to cover it and cut."""
    left, top = ((has - wants) // 2 for has, wants in zip(shown.size, size, strict=True))
    if 0 <= left < 8 and 0 <= top < 8:  # the nearest multiples of 16: the pixels that are left are what they were
        return np.asarray(shown.picture().crop((left, top, left + size[0], top + size[1])))
    return shown.pixels(size)


def resampled(path: Path, fps: float) -> Iterator[Shown]:
    """The frames that a clip shows at a constant rate, by its own timestamps: in the middle of every new frame's time.

    A clip of another rate, or of a varying one, keeps its speed: frames are repeated or left out, never blended. The
    last frame is shown as long as the one before it.
    """
    # a little later than the middle: where that is when a frame changes, it is always the new one that is shown
    half = 0.5 / fps + min(_ROUNDING, 0.1 / fps)
    start = None
    count = 0
    held: Shown | None = None
    time = gap = 0.0
    for shown in _timed(path):
        if start is None or held is None:
            start, held = shown.time or 0.0, shown
            continue
        later = (shown.time or 0.0) - start
        if later <= time:  # a frame that is never shown: timestamps that stand still or go back
            held = shown
            continue
        if later > MAX_SECONDS:
            raise ValueError(f"{path} shows a frame after {later:g} s; its timestamps are wrong, convert it")
        while count / fps + half < later:
            yield held
            count += 1
        gap, time, held = later - time, later, shown
    if held is None:
        return
    end = time + (gap or 1 / fps)
    while not count or (count + 0.5) / fps < end:
        yield held
        count += 1


def _timed(path: Path) -> Iterator[Shown]:
    """The frames, each with a time: of those that have none, by the clip's rate."""
    rate = _USUAL_RATE
    for number, shown in enumerate(shown_frames(path)):
        if shown.time is None and number == 0:
            rate = shown_rate(path) or _USUAL_RATE
        known = shown.time is not None and math.isfinite(shown.time)
        yield shown if known else Shown(shown.size, number / rate, shown.picture)
