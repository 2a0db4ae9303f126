"""What is kept of a training that fails: the same as of one that is stopped, a checkpoint and the LoRA."""

import logging
from typing import TYPE_CHECKING

import torch

from ..storage.atomic import SaveError
from .cache import CacheError
from .resume import mark_diverged, next_start

if TYPE_CHECKING:
    from .loop import Trainer

log = logging.getLogger(__name__)

MEMORY = (
    "the GPU's memory is full; turn on train.offload_checkpoints, raise train.swap_blocks, set model.base_dtype to "
    "fp8, or lower train.batch, data.frames or the size"
)


class TrainingFailed(Exception):
    """The training ended early; the message says why and what was saved."""


class Diverged(Exception):
    """The loss, its gradient or the weights are not finite, in every process alike.

    ``weights_lost``: the weights of the last completed step are not finite.
    """

    def __init__(self, what: str, weights_lost: bool = False) -> None:
        super().__init__(what)
        self.weights_lost = weights_lost


def rescue(error: Exception, trainer: "Trainer") -> TrainingFailed:
    """Save the last completed step of a training that ended with ``error``; what to tell about it."""
    what = _describe(error, trainer.step + 1)
    if not isinstance(error, Diverged | CacheError | SaveError):
        log.error("step %d failed", trainer.step + 1, exc_info=error)
    error.__traceback__ = None  # its frames hold the activations of the step
    lost = _what_is_lost(error, trainer)
    if lost is None:
        try:
            saved = trainer.finish()
        except Exception as failure:
            return TrainingFailed(f"{what}; saving failed as well: {failure}")
        kept = f"; step {saved['step']} is saved in {saved['lora']} and {saved['checkpoint']}"
    else:
        saved = {"step": trainer.step, "checkpoint": None, "lora": None, "plot": None}
        kept = lost
    if isinstance(error, Diverged) and trainer.launch.rank == 0:
        mark_diverged(trainer.folder, trainer.step)
    start = next_start(trainer.folder)
    if isinstance(error, Diverged):
        lr = trainer.options.lr
        what += f"; train with a smaller train.lr (it is {lr:g}), such as {lr / 10:g}"
    trainer.setup.report("failed", reason=what, **saved)
    return TrainingFailed(f"{what}{kept}; --resume goes on {f'from step {start}' if start else 'from the beginning'}")


def _describe(error: Exception, step: int) -> str:
    if isinstance(error, Diverged):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return f"step {step} failed: {MEMORY} ({error})"
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return f"step {step} failed: train.compile does not work here; turn it off ({error})"
    kind = "" if isinstance(error, CacheError | SaveError | ValueError) else f"{type(error).__name__}: "
    return f"step {step} failed: {kind}{error}"


def _what_is_lost(error: Exception, trainer: "Trainer") -> str | None:
    """Why the state cannot be saved; None where it can."""
    if not trainer.step:
        return ""
    if trainer.updating:
        return "; it was changing the weights, which are of no step now"
    if isinstance(error, Diverged):
        return f"; the weights of step {trainer.step} are not finite and not saved" if error.weights_lost else None
    if trainer.launch.world > 1:  # the other processes may not be there to take part
        if trainer.launch.sharded or trainer.launch.rank:
            return "; the state is in several processes and cannot be saved by one"
        trainer.launch.alone = True
    return None
