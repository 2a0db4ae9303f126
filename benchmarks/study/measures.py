"""Plain image measurements of a clip whose first frame and caption were given."""

import numpy as np

from benchmarks.demo_model.judge import compare, look
from demo.clips import Scene

MEASURES = {
    "background": "difference to the given background, away from the object (0..1)",
    "position": "distance of the object from where it should be (pixels of 64)",
    "motion": "error of its movement between latent frames (pixels per frame)",
    "first": "difference of frame 0 to the given picture (0..1)",
    "change": "difference between frames that are four apart (0..1): how much moves",
    "jerk": "second difference of consecutive frames (0..1): 0 is perfectly smooth",
    "colour": "share of clips with the captioned colour",
    "shape": "share of clips with the captioned shape",
    "direction": "share of clips that move in the captioned direction",
}
VERSION = 1  # raise it when a measurement changes, so that stored results are made anew


def measure(video: np.ndarray, scene: Scene) -> list[float]:
    """The :data:`MEASURES` of ``[81, H, W, 3]`` in 0..1, in their order."""
    errors, seen = compare(video, scene), look(video)
    return [
        errors.background,
        errors.position,
        errors.motion,
        float(np.abs(video[0] - scene.render([0])[0]).mean()),
        float(np.abs(video[4:] - video[:-4]).mean()),
        float(np.abs(np.diff(video, 2, axis=0)).mean()),
        float(seen.color == scene.color),
        float(seen.shape == scene.shape),
        float(seen.direction == scene.direction),
    ]
