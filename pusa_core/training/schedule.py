"""The learning rate of a step: a function of its number alone, so that resuming needs no state."""

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .config import TrainOptions

Schedule = Literal["constant", "cosine", "linear", "cosine_restarts", "rex", "wsd"]
STABLE = 0.8  # of the steps after the warm-up; wsd decays over the rest


def learning_rate(options: "TrainOptions", step: int, steps: int | None = None) -> float:
    """The learning rate of a step, counted from 0, of ``steps`` (``train.steps``)."""
    steps = options.steps if steps is None else steps
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    done = (step - options.warmup) / max(steps - options.warmup, 1)
    return options.lr * _factor(options.schedule, done, options.cycles)


def _factor(schedule: Schedule, done: float, cycles: int) -> float:
    """``done``: the share of the steps after the warm-up that lie before this one."""
    if schedule == "linear":
        return 1 - done
    if schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    if schedule == "cosine_restarts":
        return (1 + math.cos(math.pi * (done * cycles % 1))) / 2
    if schedule == "rex":  # arXiv 2107.04197
        return (1 - done) / (1 - done / 2)
    if schedule == "wsd":  # warm-up, stable, decay: arXiv 2404.06395
        return min(1.0, (1 - done) / (1 - STABLE))
    return 1.0
