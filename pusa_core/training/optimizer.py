"""Optimiser, learning-rate schedule, and EMA of the weights."""

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from .config import TrainOptions


def build_optimizer(options: TrainOptions, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW or 8-bit AdamW. Raises ``ValueError`` for the latter without bitsandbytes."""
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
    """The learning rate of a step, counted from 0."""
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
        """Swap the EMA weights with the network's; a second call swaps them back."""
        for name, value in self.values.items():
            kept: Tensor = self.parameters[name].detach().clone()
            self.parameters[name].copy_(value)
            value.copy_(kept)
        self.exchanged = not self.exchanged
