"""Optimisers by name, and averages of the trained weights."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ..storage.json_text import parse_json

if TYPE_CHECKING:
    from .config import TrainOptions

OptimizerName = Literal["adamw", "adamw8bit", "adafactor", "came", "lion", "muon", "prodigy", "schedulefree"]
LIBRARY = {
    "adafactor": "AdaFactor",
    "came": "CAME",
    "lion": "Lion",
    "muon": "Muon",
    "prodigy": "Prodigy",
    "schedulefree": "ScheduleFreeAdamW",
}
"""Their classes in ``pytorch_optimizer``."""
OWN_DEFAULTS: dict[str, dict[str, Any]] = {"adafactor": {"relative_step": False, "scale_parameter": False}}
"""Where a library's default would ignore ``train.lr``."""
BY_OPTION = {"params", "lr", "weight_decay", "kwargs"}
"""What is no argument of ``train.optimizer_args``."""
STATE_BYTES = {"adamw8bit": 2, "adafactor": 2, "came": 4, "lion": 4, "muon": 4, "prodigy": 16}
"""Bytes of state per trained parameter; 8 for all others. AdaFactor and CAME have rows and columns besides."""


def optimizer_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """``["d_coef=2", "betas=[0.9, 0.99]"]`` as keyword arguments."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ValueError(f'train.optimizer_args holds "{text}"; write NAME=VALUE, such as "d_coef=2"')
        try:
            parsed = parse_json(value)
        except ValueError:
            parsed = {"True": True, "False": False, "None": None}.get(value.strip(), value.strip())
        found[name.strip()] = tuple(parsed) if isinstance(parsed, list) else parsed
    return found


def build_optimizer(options: "TrainOptions", parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of ``train.optimizer`` with the arguments of ``train.optimizer_args``.

    Raises ``ValueError`` where its library is missing, or does not take an argument.
    """
    kind = _kind(options.optimizer)
    arguments = OWN_DEFAULTS.get(options.optimizer, {}) | optimizer_arguments(options.optimizer_args)
    if "betas" in (known := set(inspect.signature(kind).parameters)) and options.optimizer.startswith("adamw"):
        arguments = {"betas": options.betas, **arguments}
    if options.optimizer == "adamw" and not options.optimizer_args and next(iter(parameters.values())).is_cpu:
        arguments["fused"] = True  # PyTorch's default for a CPU updates the weights one by one, in a dozen passes
    if unknown := sorted(arguments.keys() - (known - BY_OPTION)):
        allowed = ", ".join(sorted(known - BY_OPTION))
        raise ValueError(f"train.optimizer_args: {options.optimizer} takes no {unknown[0]} there, but {allowed}")
    groups: Any = list(parameters.values())
    if options.optimizer == "muon":
        groups = _muon_groups(parameters)
        arguments = {"adamw_wd": options.weight_decay, **arguments}
    try:
        return kind(groups, lr=options.lr, weight_decay=options.weight_decay, **arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"train.optimizer_args: {options.optimizer} does not take them ({error})") from error


def check_optimizer(options: "TrainOptions") -> None:
    """Raise as :func:`build_optimizer`, without the network."""
    build_optimizer(options, {"blocks.0.weight": nn.Parameter(torch.zeros(1, 1))})


def _kind(name: str) -> Callable[..., torch.optim.Optimizer]:
    if name == "adamw":
        return torch.optim.AdamW
    library = "bitsandbytes" if name == "adamw8bit" else "pytorch_optimizer"
    try:
        if name == "adamw8bit":
            from bitsandbytes.optim import AdamW8bit

            return AdamW8bit
        import pytorch_optimizer

        return getattr(pytorch_optimizer, LIBRARY[name])
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f'train.optimizer is "{name}", which needs {library} ({error}); install it, or use "adamw"'
        ) from error


def _muon_groups(parameters: Mapping[str, nn.Parameter]) -> list[dict[str, Any]]:
    """Muon is for the matrices of the blocks; it trains everything else by AdamW."""
    matrices = {name for name, value in parameters.items() if value.ndim == 2 and name.startswith("blocks.")}
    groups = [
        {"params": [value for name, value in parameters.items() if (name in matrices) is muon], "use_muon": muon}
        for muon in (True, False)
    ]
    return [group for group in groups if group["params"]]


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


class ScheduleFreeAverage:
    """The weights that a schedule-free optimiser evaluates and saves; it computes gradients at others.

    Its own way back is not exact to the last bit, so the weights of training are kept meanwhile.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], optimizer: Any) -> None:
        self.parameters, self.optimizer = parameters, optimizer
        self.exchanged = False
        self._kept: list[Tensor] = []

    @torch.no_grad()
    def exchange(self) -> None:
        """Swap the averaged weights with those of training; a second call swaps them back."""
        if not self.exchanged:
            self._kept = [value.detach().clone() for value in self.parameters.values()]
            self.exchanged = True
            self.optimizer.eval()
            return
        self.optimizer.train()
        for value, kept in zip(self.parameters.values(), self._kept, strict=True):
            value.copy_(kept)
        self.exchanged, self._kept = False, []
