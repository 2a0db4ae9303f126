"""Excerpts: which frames of a clip are trained on, and their pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from ..media.clip import resampled
from ..media.decode import Shown, shown_frames

if TYPE_CHECKING:
    from .scan import Facts
    from .sources import DataOptions

How = Literal["head", "spread", "sliding", "all"]
SHORTEST = 5  # pixel frames; of a video of two latent frames


@dataclass(frozen=True)
class Excerpt:
    """``frames`` pixel frames from frame ``start`` on, at ``fps`` frames per second; 0: every frame as it is."""

    start: int
    frames: int
    fps: float

    @property
    def stop(self) -> int:
        return self.start + self.frames


def frames_at(path: Path, fps: float) -> Iterator[Shown]:
    """The frames of a clip, resampled to ``fps`` by their timestamps, or all of them with 0."""
    return resampled(path, fps) if fps else shown_frames(path)


def excerpts_of(data: "DataOptions", facts: "Facts") -> list[Excerpt]:
    """The excerpts of a clip, in the order of their frames; of a picture, itself.

    Raises ``ValueError`` where the clip is too short for any.
    """
    if facts.still:
        return [Excerpt(0, 1, 0.0)]
    length = facts.length(data.fps)
    if length is None:  # not counted, as none of the options asks for it
        return [Excerpt(0, data.longest, data.fps)]
    frames = longest_within(length, data)
    if not frames:
        raise ValueError(too_short(length, SHORTEST if data.auto_lengths else min(data.all_lengths), data.fps))
    found = [Excerpt(start, frames, data.fps) for start in _starts(data, length, frames)]
    if data.excerpt == "all" and (rest := longest_within(length - found[-1].stop, data)):
        found.append(Excerpt(found[-1].stop, rest, data.fps))
    return found


def longest_within(length: int, data: "DataOptions") -> int:
    """The longest excerpt that ``length`` frames hold; 0 if they hold none."""
    if data.auto_lengths:
        fitting = (min(length, data.frames) - 1) // 4 * 4 + 1
        return fitting if fitting >= SHORTEST or fitting == data.frames else 0
    return max((frames for frames in data.all_lengths if frames <= length), default=0)


def _starts(data: "DataOptions", length: int, frames: int) -> Sequence[int]:
    room = length - frames
    match data.excerpt:
        case "spread":
            parts = min(data.excerpt_count, room + 1) - 1
            return [round(room * part / parts) for part in range(parts + 1)] if parts else [room // 2]
        case "sliding":
            return range(0, room + 1, data.excerpt_stride or max(frames // 2, 1))
        case "all":
            return range(0, room + 1, frames)
    return [0]


def too_short(length: int, needed: int, fps: float) -> str:
    rate = f" at {fps:g} frames per second" if fps else ""
    return f"too short: {length} frames{rate}, {needed} are needed"


def read_excerpts(path: Path, size: tuple[int, int], excerpts: Sequence[Excerpt]) -> Iterator[Tensor]:
    """The pixels of excerpts of one rate, sorted by their frames: ``[frames, H, W, 3]`` fp32 in 0..1.

    Scaled to cover ``size`` (width, height) and centre-cropped. The file is decoded once. Raises ``ValueError`` when it
    cannot be decoded, or ends too early.
    """
    shown, done = frames_at(path, excerpts[0].fps), 0
    held: dict[int, np.ndarray] = {}
    for excerpt in excerpts:
        held = {number: pixels for number, pixels in held.items() if number >= excerpt.start}
        while done < excerpt.stop:
            if (frame := next(shown, None)) is None:
                raise ValueError(too_short(done - excerpt.start, excerpt.frames, excerpt.fps))
            if done >= excerpt.start:
                held[done] = frame.pixels(size)
            done += 1
        pixels = np.stack([held[number] for number in range(excerpt.start, excerpt.stop)])
        yield torch.from_numpy(pixels).float() / 255
