"""Image measurements of a clip: position, shape and colour of the object, and the background."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from demo.clips import COLORS, DIRECTIONS, FRAMES, SIZE, Scene

OBJECT_CHROMA = 0.4  # max minus min of RGB; backgrounds stay below 0.17, objects are above 0.66
MIN_AREA = 20  # pixels; anything smaller is not an object
FULL_SQUARE = 0.75  # threshold for the covered fraction of the bounding box: 0.5 for a diamond, 1 for a square
LOST = SIZE / 2  # position error assigned to a frame without an object, pixels


@dataclass(frozen=True)
class Seen:
    """Measurements of a clip of T frames; NaN for frames without an object."""

    centers: np.ndarray  # [T, 2] x, y
    areas: np.ndarray  # [T]
    masks: np.ndarray  # [T, H, W]
    color: str | None
    shape: str | None

    @property
    def velocity(self) -> np.ndarray:
        """Least-squares velocity (x, y), pixels per frame; NaN if fewer than two frames show the object."""
        times = np.flatnonzero(~np.isnan(self.areas))
        if len(times) < 2:
            return np.full(2, np.nan)
        return np.polyfit(times, self.centers[times], 1)[0]

    @property
    def direction(self) -> str | None:
        velocity = self.velocity
        if np.isnan(velocity).any():
            return None
        return max(DIRECTIONS, key=lambda name: float(np.dot(DIRECTIONS[name], velocity)))


def look(video: np.ndarray) -> Seen:
    """Measure ``[T, H, W, 3]`` in 0..1."""
    masks = video.max(axis=-1) - video.min(axis=-1) > OBJECT_CHROMA
    areas = masks.sum(axis=(1, 2)).astype(float)
    areas[areas < MIN_AREA] = np.nan
    centers = np.full((len(video), 2), np.nan)
    fills = []
    for index in np.flatnonzero(~np.isnan(areas)):
        ys, xs = np.nonzero(masks[index])
        centers[index] = xs.mean() + 0.5, ys.mean() + 0.5
        fills.append(areas[index] / ((np.ptp(xs) + 1) * (np.ptp(ys) + 1)))
    color = shape = None
    if fills:
        mean = video[masks].mean(axis=0) * 255
        color = min(COLORS, key=lambda name: float(np.abs(mean - COLORS[name]).sum()))
        shape = "square" if np.median(fills) > FULL_SQUARE else "diamond"
    return Seen(centers, areas, masks, color, shape)


@dataclass(frozen=True)
class Errors:
    """Errors of an image-to-video result with respect to the ground truth.

    Frame 0, the given one, only counts for the motion, which includes a jump of the object after it.
    """

    background: float  # mean absolute difference, 0..1, away from the object
    position: float  # pixels
    size: float  # relative error of the area
    motion: float  # error of the motion between consecutive latent frames, pixels per frame


def grown(mask: np.ndarray) -> np.ndarray:
    """A mask ``[H, W]`` and the three pixels around it."""
    return np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(7))) > 0


def halo(video: np.ndarray, scene: Scene) -> float:
    """Mean absolute difference from the background (0..1) in the three pixels around the object, where it truly is."""
    values = []
    for frame, truth in zip(video, scene.render(), strict=True):
        covered = (truth != scene.background.astype(np.float32)).any(axis=-1)
        ring = grown(covered) & ~covered
        values.append(np.abs(frame - scene.background)[ring].mean())
    return float(np.mean(values))


def compare(video: np.ndarray, scene: Scene) -> Errors:
    """Compare ``[81, H, W, 3]`` with the scene from which its first frame was given."""
    seen, truth = look(video), look(scene.render())
    background = []
    for index in range(1, FRAMES):
        outside = ~(grown(seen.masks[index]) | grown(truth.masks[index]))
        background.append(np.abs(video[index] - scene.background)[outside].mean() if outside.any() else np.nan)
    distance = np.linalg.norm(seen.centers - scene.positions(), axis=1)[1:]
    size = np.minimum(np.abs(seen.areas / truth.areas - 1), 1)[1:]
    times = range(0, FRAMES, 4)
    steps = np.nan_to_num(np.diff(seen.centers[times], axis=0)) - np.diff(scene.positions(times), axis=0)
    return Errors(
        background=float(np.nanmean(background)),
        position=float(np.nan_to_num(distance, nan=LOST).mean()),
        size=float(np.nan_to_num(size, nan=1).mean()),
        motion=float(np.linalg.norm(steps, axis=1).mean() / 4),
    )
