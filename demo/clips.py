"""Procedural clips with captions: one shape gliding over a still background.

A clip is fixed by its seed. The caption names size, colour, shape, speed and direction; it leaves the background and
the start position open on purpose, so that only a given image can tell them. Motion is uniform, hence caption and
first frame together determine all other frames: an image-to-video result has exactly one right answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FRAMES = 81
SIZE = 64

SHAPES = ("circle", "square")
COLORS = {
    "red": (235, 30, 30),
    "green": (30, 200, 30),
    "blue": (40, 60, 240),
    "yellow": (240, 220, 20),
    "magenta": (230, 30, 220),
    "cyan": (20, 215, 230),
}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SPEEDS = {"slowly": 0.15, "quickly": 0.35}  # pixels per frame
RADII = {"small": 6.0, "large": 10.0}  # of the circle, pixels
SQUARE_HALF_SIDE = 0.9  # of the circle's radius
BACKGROUNDS = ("plain", "horizontal gradient", "vertical gradient", "waves", "checker")


@dataclass(frozen=True)
class Scene:
    """Everything that determines a clip; ``x, y`` is the object's centre in frame 0, pixels."""

    size: str
    color: str
    shape: str
    speed: str
    direction: str
    x: float
    y: float
    background: np.ndarray  # [H, W, 3], 0..1

    @property
    def caption(self) -> str:
        return f"a {self.size} {self.color} {self.shape} moves {self.speed} {self.direction}"

    @property
    def extent(self) -> float:
        """Half of the object's width, pixels."""
        return RADII[self.size] * (SQUARE_HALF_SIDE if self.shape == "square" else 1.0)

    @property
    def area(self) -> float:
        """The object's area, pixels squared."""
        return 4 * self.extent**2 if self.shape == "square" else np.pi * self.extent**2

    def positions(self, times: Sequence[int] = range(FRAMES)) -> np.ndarray:
        """Centres ``[len(times), 2]`` (x, y) in pixels at the given frame numbers."""
        step = np.array(DIRECTIONS[self.direction]) * SPEEDS[self.speed]
        return np.array([self.x, self.y]) + np.asarray(times)[:, None] * step

    def render(self, times: Sequence[int] = range(FRAMES)) -> np.ndarray:
        """The frames ``[len(times), H, W, 3]``, float32 in 0..1, edges antialiased."""
        center = self.positions(times)[:, None, None, :]
        ys, xs = np.mgrid[0:SIZE, 0:SIZE] + 0.5
        offset = np.stack([xs, ys], axis=-1)[None] - center
        if self.shape == "circle":
            distance = np.hypot(offset[..., 0], offset[..., 1]) - self.extent
        else:
            distance = np.abs(offset).max(axis=-1) - self.extent
        coverage = np.clip(0.5 - distance, 0, 1)[..., None]
        color = np.array(COLORS[self.color]) / 255
        return (self.background * (1 - coverage) + color * coverage).astype(np.float32)


def draw_scene(seed: int) -> Scene:
    """The scene of a seed. Scenes of different seeds are independent draws."""
    rng = np.random.default_rng(seed)
    size, color, shape = (str(rng.choice(list(names))) for names in (RADII, COLORS, SHAPES))
    speed, direction = (str(rng.choice(list(names))) for names in (SPEEDS, DIRECTIONS))
    travel = np.array(DIRECTIONS[direction]) * SPEEDS[speed] * (FRAMES - 1)
    margin = RADII[size] + 1
    low = margin - np.minimum(travel, 0)
    high = SIZE - margin - np.maximum(travel, 0)
    x, y = rng.uniform(low, high)
    return Scene(size, color, shape, speed, direction, float(x), float(y), _background(rng))


def _background(rng: np.random.Generator) -> np.ndarray:
    """A muted still picture ``[H, W, 3]``: every colour nearly grey, so that the object is the one saturated thing."""
    ys, xs = (np.mgrid[0:SIZE, 0:SIZE] + 0.5) / SIZE
    kind = rng.choice(BACKGROUNDS)
    first, second = (np.clip(rng.uniform(0.1, 0.9) + rng.uniform(-0.08, 0.08, 3), 0, 1) for _ in range(2))
    if kind == "plain":
        blend = np.zeros_like(xs)
    elif kind == "horizontal gradient":
        blend = xs
    elif kind == "vertical gradient":
        blend = ys
    elif kind == "waves":
        angle, periods, phase = rng.uniform(0, np.pi), rng.uniform(1, 3), rng.uniform(0, 2 * np.pi)
        blend = 0.5 + 0.5 * np.sin(2 * np.pi * periods * (np.cos(angle) * xs + np.sin(angle) * ys) + phase)
    else:
        cells = rng.integers(2, 5)
        blend = (np.floor(xs * cells) + np.floor(ys * cells)) % 2
    return first * (1 - blend[..., None]) + second * blend[..., None]
