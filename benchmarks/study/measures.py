"""Image measurements of a clip generated from a first frame and a caption."""

import numpy as np

from benchmarks.demo_model.judge import compare, look
from demo.clips import Scene

MEASURES = {
    "background": "difference from the given background, away from the object (0..1)",
    "position": "position error of the object (pixels of 64)",
    "motion": "error of its motion between latent frames (pixels per frame)",
    "first": "difference of frame 0 from the given image (0..1)",
    "change": "difference between frames four apart (0..1): amount of motion",
    "jerk": "second difference of consecutive frames (0..1): 0 is perfectly smooth",
    "colour": "fraction of clips with the captioned colour",
    "shape": "fraction of clips with the captioned shape",
    "direction": "fraction of clips that move in the captioned direction",
}
VERSION = 1  # increment when a measurement changes, to invalidate stored results


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
