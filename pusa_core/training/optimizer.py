"""AdamW, the learning rate of a step, and the moving average of the weights."""

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from .config import TrainOptions


def build_optimizer(options: TrainOptions, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Raises ``ValueError`` when 8-bit AdamW is wanted where bitsandbytes is not installed."""
    kind: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW
    if options.optimizer == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError as error:
            raise ValueError(
                f'train.optimizer is "adamw8bit", which needs bitsandbytes ({error}); install it, or use "adamw"'
            ) from error
        kind = AdamW8bit
    return kind(parameters, lr=options.lr, betas=options.betas, weight_decay=options.weight_decay)


def learning_rate(options: TrainOptions, step: int) -> float:
    """The learning rate of step ``step``, counted from 0."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    done = (step - options.warmup) / max(options.steps - options.warmup, 1)
    factor = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return options.lr * factor[options.schedule]


class Ema:
    """An exponential moving average of parameters: ``decay * average + (1 - decay) * value`` after each step."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.parameters = parameters
        self.exchanged = False
        self.values = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        for name, value in self.values.items():
            value.lerp_(self.parameters[name].detach(), 1 - self.decay)

    @torch.no_grad()
    def exchange(self) -> None:
        """The average into the network and the network's own weights here; again, and all is as before."""
        for name, value in self.values.items():
            kept: Tensor = self.parameters[name].detach().clone()
            self.parameters[name].copy_(value)
            value.copy_(kept)
        self.exchanged = not self.exchanged
