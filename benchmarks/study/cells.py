"""Generates and measures the clips of a cell, seed by seed."""

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from benchmarks.demo_model.measure import decode, load_demo, sample, sample_by_replacement
from benchmarks.study.measures import MEASURES, measure
from benchmarks.study.plan import Cell, Plan, Training
from benchmarks.study.store import Arrays, Store
from benchmarks.study.training import trained
from demo.clips import Scene, draw_scene
from demo.training.vae_pool import encode_clips
from pusa_core import WanModel, load_lora, merge_lora
from pusa_core.weights.demo_files import LORA

log = logging.getLogger(__name__)

FIRST_SCENE = 2000  # held out: other measurements use scenes below, training uses scenes from 10000
SEED_STEP = 1000
SHOWN_CLIPS, SHOWN_FRAMES = 3, tuple(np.linspace(0, 80, 8).round().astype(int))


@dataclass(frozen=True)
class Difference:
    """The change of a measure between two cells, paired by clip, and its error.

    ``error`` is the larger of the standard deviation over seeds and the standard error over clips.
    """

    gap: float
    error: float

    @classmethod
    def of(cls, before: np.ndarray, after: np.ndarray) -> "Difference":
        """From measurements ``[seeds, clips]``; NaN where undefined."""
        change = after - before
        by_clip, by_seed = np.nanmean(change, 0), np.nanmean(change, 1)
        errors = [by_clip.std(ddof=1) / len(by_clip) ** 0.5 if len(by_clip) > 1 else 0.0]
        errors.append(by_seed.std(ddof=1) if len(by_seed) > 1 else 0.0)
        return cls(float(by_clip.mean()), float(max(errors)))

    @property
    def direction(self) -> str:
        """ "lower" or "higher" if the gap is more than twice its error, otherwise ""."""
        return "" if abs(self.gap) <= 2 * self.error else "lower" if self.gap < 0 else "higher"


@dataclass(frozen=True)
class Spread:
    """Mean over clips, then mean and standard deviation over noise seeds."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, by_seed: np.ndarray) -> "Spread":
        """From ``by_seed [seeds]``."""
        return cls(float(by_seed.mean()), float(by_seed.std(ddof=1)) if len(by_seed) > 1 else 0.0)

    def __str__(self) -> str:
        digits = 3 if abs(self.mean) < 1 else 2
        return f"{self.mean:.{digits}f} ± {self.deviation:.{digits}f}"


class Bench:
    """The scenes shared by all cells, and the measurements of each cell."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self.store = store
        self.plan = plan
        self.scenes: list[Scene] = [draw_scene(FIRST_SCENE + index) for index in range(plan.clips)]

    @cached_property
    def first(self) -> Tensor:
        """Latents of the given frames, ``[clips, 16, 1, 8, 8]``."""
        return encode_clips(self.scenes, range(1))

    def model(self, lora: Training | str | None, strength: float) -> WanModel:
        model = load_demo(0.0)
        if lora == "demo":
            merge_lora(model, load_lora(LORA), strength)
        elif isinstance(lora, Training):
            plan = self.plan
            snapshots = plan.training_steps if lora == Training(lora.steps) else ()
            merge_lora(model, trained(self.store, lora, snapshots, plan.training_clips), strength)
        return model

    def arrays(self, cell: Cell, number: int) -> Arrays:
        """Measurements and shown frames of the clips of a cell, for one noise seed."""

        def compute() -> Arrays:
            log.info("seed %d of %s", number, cell)
            model, seed = self.model(cell.lora, cell.strength), SEED_STEP * number
            if cell.replaced:
                latents = sample_by_replacement(model, self.scenes, self.first, steps=cell.steps, seed=seed)
            else:
                first = None if cell.noise_level is None else self.first
                level = cell.noise_level or 0.0
                latents = sample(model, self.scenes, first, noise_level=level, steps=cell.steps, seed=seed)
            videos = decode(latents)
            measured = [measure(video, scene) for video, scene in zip(videos, self.scenes, strict=True)]
            shown = np.stack([video[list(SHOWN_FRAMES)] for video in videos[:SHOWN_CLIPS]])
            return {"measured": np.array(measured), "shown": (shown * 255).round().astype(np.uint8)}

        return self.store.get(compute, "cell", cell, number, self.plan.clips, self.plan.training_clips)

    def spread(self, cell: Cell, name: str) -> Spread:
        """One of the :data:`MEASURES` of a cell; clips where it is undefined are ignored."""
        return Spread.of(np.nanmean(self._values(cell, name), 1))

    def difference(self, before: Cell, after: Cell, name: str) -> Difference:
        return Difference.of(self._values(before, name), self._values(after, name))

    def _values(self, cell: Cell, name: str) -> np.ndarray:
        """``[seeds, clips]``."""
        column = list(MEASURES).index(name)
        return np.stack([self.arrays(cell, number)["measured"][:, column] for number in range(self.plan.seeds)])

    def shown(self, cell: Cell) -> np.ndarray:
        """Frames ``[clips, 8, 64, 64, 3]``, uint8, of the first clips of the first seed."""
        return self.arrays(cell, 0)["shown"]

    @cached_property
    def truth(self) -> Arrays:
        """The same measurements and frames for the real clips, encoded and decoded by the VAE."""

        def compute() -> Arrays:
            videos = decode(encode_clips(self.scenes))
            measured = [measure(video, scene) for video, scene in zip(videos, self.scenes, strict=True)]
            shown = np.stack([video[list(SHOWN_FRAMES)] for video in videos[:SHOWN_CLIPS]])
            return {"measured": np.array(measured), "shown": (shown * 255).round().astype(np.uint8)}

        return self.store.get(compute, "truth", self.plan.clips)

    def truth_of(self, name: str) -> float:
        return float(np.nanmean(self.truth["measured"][:, list(MEASURES).index(name)]))
