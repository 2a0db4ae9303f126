"""Procedural clips with captions: one shape gliding over a still background.

A clip is determined by its seed. The caption gives approximate size, colour, shape, speed and direction; background,
start position and exact size are deliberately not in it, so only a given image can determine them. Motion is uniform,
so caption and first frame together determine all other frames: image-to-video has a single ground truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FRAMES = 81
SIZE = 64
EXAMPLE_SCENE = 776  # of the demo workflows and commands; "a large red diamond moves quickly left"

SHAPES = ("square", "diamond")
COLORS = {
    "red": (235, 30, 30),
    "green": (30, 200, 30),
    "blue": (40, 60, 240),
    "yellow": (240, 220, 20),
    "magenta": (230, 30, 220),
    "cyan": (20, 215, 230),
}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SPEEDS = {"slowly": 0.2, "quickly": 0.42}  # pixels per frame
RADII = {"small": (5.0, 7.0), "large": (9.0, 11.0)}  # radius of a circle with the same area, pixels
EXTENTS = {"square": np.sqrt(np.pi) / 2, "diamond": np.sqrt(np.pi / 2)}  # half the width for radius 1
BACKGROUNDS = ("plain", "horizontal gradient", "vertical gradient", "waves", "glow")


@dataclass(frozen=True)
class Scene:
    """The parameters of a clip; ``x, y`` is the object's centre in frame 0, pixels."""

    size: str
    color: str
    shape: str
    speed: str
    direction: str
    radius: float
    x: float
    y: float
    background: np.ndarray  # [H, W, 3], 0..1

    @property
    def caption(self) -> str:
        return f"a {self.size} {self.color} {self.shape} moves {self.speed} {self.direction}"

    @property
    def extent(self) -> float:
        """Half the object's width, pixels."""
        return self.radius * float(EXTENTS[self.shape])

    @property
    def area(self) -> float:
        """The object's area, pixels squared."""
        return np.pi * self.radius**2

    def positions(self, times: Sequence[int] = range(FRAMES)) -> np.ndarray:
        """Centres ``[len(times), 2]`` (x, y) in pixels at the given frame numbers."""
        step = np.array(DIRECTIONS[self.direction]) * SPEEDS[self.speed]
        return np.array([self.x, self.y]) + np.asarray(times)[:, None] * step

    def render(self, times: Sequence[int] = range(FRAMES)) -> np.ndarray:
        """Render frames ``[len(times), H, W, 3]``, float32 in 0..1, antialiased."""
        x, y = self.positions(times).astype(np.float32).T[..., None, None]
        grid = np.arange(SIZE, dtype=np.float32) + 0.5
        right, down = np.abs(grid - x), np.abs(grid[:, None] - y)  # [T, 1, W], [T, H, 1]
        if self.shape == "diamond":
            distance = (right + down - np.float32(self.extent)) / np.float32(np.sqrt(2))
        else:
            distance = np.maximum(right, down) - np.float32(self.extent)
        coverage = np.clip(0.5 - distance, 0, 1)[..., None]
        background = self.background.astype(np.float32)
        color = np.array(COLORS[self.color], np.float32) / 255
        return background + (color - background) * coverage


def draw_scene(seed: int) -> Scene:
    """The scene of a seed. Scenes of different seeds are independent samples."""
    rng = np.random.default_rng(seed)
    size, color, shape = (str(rng.choice(list(names))) for names in (RADII, COLORS, SHAPES))
    speed, direction = (str(rng.choice(list(names))) for names in (SPEEDS, DIRECTIONS))
    radius = rng.uniform(*RADII[size])
    travel = np.array(DIRECTIONS[direction]) * SPEEDS[speed] * (FRAMES - 1)
    margin = radius * EXTENTS[shape] + 1
    low = margin - np.minimum(travel, 0)
    high = SIZE - margin - np.maximum(travel, 0)
    x, y = rng.uniform(low, high)
    return Scene(size, color, shape, speed, direction, float(radius), float(x), float(y), _background(rng))


def window_times(seed: int) -> np.ndarray:
    """The times ``[FRAMES]`` of a scene that a window of a long video shows, in which the object turns round.

    Frame 0 is of any time: what began the video. Behind it come up to four latents of the object on its way, mostly
    back, and then it goes as the caption says.
    """
    rng = np.random.default_rng([seed, 1])
    history = 4 * int(rng.integers(1, 5))
    if rng.random() < 0.7:
        turn = int(rng.integers(0, history + 1))
        before = turn + np.arange(history - 1, -1, -1)
    else:
        turn = history
        before = np.arange(1, history + 1)
    return np.concatenate(([int(rng.integers(0, FRAMES))], before, turn + np.arange(1, FRAMES - history)))


def _background(rng: np.random.Generator) -> np.ndarray:
    """A muted still image ``[H, W, 3]`` of nearly grey colours, so that only the object is saturated."""
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
        angle, periods, phase = rng.uniform(0, np.pi), rng.uniform(1, 2), rng.uniform(0, 2 * np.pi)
        blend = 0.5 + 0.5 * np.sin(2 * np.pi * periods * (np.cos(angle) * xs + np.sin(angle) * ys) + phase)
    else:
        x, y, width = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.4)
        blend = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * width**2))
    return first * (1 - blend[..., None]) + second * blend[..., None]
