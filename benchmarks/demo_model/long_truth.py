"""What is right in a long video of the demo's world, where the object turns round, and how far a video is from it."""

from dataclasses import replace

import numpy as np

from benchmarks.demo_model.judge import LOST, grown, look
from demo.clips import DIRECTIONS, SPEEDS, Scene
from pusa_core.sampling.keyframes import STRIDE

OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}


class Truth:
    """Where the object of a scene is, if it turns round at the beginning of every hop but the first."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._at = np.array([scene.x, scene.y])
        self._forth = True

    def caption(self, hop: int) -> str:
        direction = self.scene.direction if hop % 2 == 0 else OPPOSITE[self.scene.direction]
        return replace(self.scene, direction=direction).caption

    def go_on(self, frames: int) -> np.ndarray:
        """The positions ``[frames, 2]`` in a hop's new frames; the next hop begins after them."""
        step = np.array(DIRECTIONS[self.scene.direction]) * SPEEDS[self.scene.speed] * (1 if self._forth else -1)
        positions = self._at + np.arange(1, frames + 1)[:, None] * step
        self._at, self._forth = positions[-1], not self._forth
        return positions

    @property
    def velocity(self) -> np.ndarray:
        """Of the hop that ``go_on`` was asked for last, pixels per frame."""
        step = np.array(DIRECTIONS[self.scene.direction]) * SPEEDS[self.scene.speed]
        return step * (-1 if self._forth else 1)


def measure_hop(truth: Truth, video: np.ndarray, before: np.ndarray) -> dict[str, float]:
    """The errors of the new frames ``[T, H, W, 3]`` of a hop; ``before``: the last frame before them."""
    positions, seen = truth.go_on(len(video)), look(video)
    background, shift = [], []
    for frame, mask in zip(video, seen.masks, strict=True):
        outside = ~grown(mask)
        difference = (frame - truth.scene.background)[outside]
        background.append(np.abs(difference).mean())
        shift.append(np.abs(difference.mean(axis=0)).mean())
    distance = np.nan_to_num(np.linalg.norm(seen.centers - positions, axis=1), nan=LOST)
    speed = float(np.dot(seen.velocity, truth.velocity) / np.dot(truth.velocity, truth.velocity))
    change = np.abs(np.diff(np.concatenate((before[None], video)), axis=0)).mean(axis=(1, 2, 3))
    return {
        "background": float(np.mean(background)),
        "colour": float(np.mean(shift)),
        "position": float(distance.mean()),
        "seen": float((~np.isnan(seen.areas)).mean()),
        "motion": 0.0 if np.isnan(speed) else speed,
        "seam": float(change[0] / np.median(change[STRIDE::STRIDE])),  # between latents, as the seam is
    }


def true_video(scene: Scene, new: int, hops: int) -> np.ndarray:
    """The frames ``[1 + new * hops, H, W, 3]`` of a picture and so many hops."""
    truth = Truth(scene)
    positions = np.concatenate([[(scene.x, scene.y)], *(truth.go_on(new) for _ in range(hops))])
    return np.concatenate([replace(scene, x=x, y=y).render([0]) for x, y in positions])
