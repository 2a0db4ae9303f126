"""Wan2.2's two experts in one run: which of them a step trains, and where the other one is meanwhile."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..sampling.denoise import EXPERT_BOUNDARY
from .adapters import LoraLinear
from .config import Config
from .files import HIGH, LOW
from .launch import Launch, unwrapped
from .network import TrainedWan, trainable
from .objective import NoiseRange
from .optimizer import Ema, ScheduleFreeAverage
from .optimizer_state import Numbers, OptimizerState
from .turns import Turns


def expert_ranges(config: Config) -> dict[str, NoiseRange]:
    """The noise range of each expert that is trained, by its name; a model that is trained alone has none."""
    if not config.model.low_noise_checkpoint:
        return {"": config.train.noise_range}
    return {HIGH: (EXPERT_BOUNDARY, 1.0), LOW: (0.0, EXPERT_BOUNDARY)}


def turns_of(config: Config) -> Turns:
    return Turns(tuple(expert_ranges(config).values()), config.train.switch_every)


@dataclass
class Expert:
    """A network that is trained, with its optimiser.

    ``model``: called in training, wrapped for distributed runs; ``network``: the DiT inside. ``base``: the checkpoint's
    file name. ``parameters``: the trained ones by name.
    """

    name: str
    base: str
    noise_range: NoiseRange
    launch: Launch
    model: nn.Module
    adapters: dict[str, LoraLinear]
    optimizer: torch.optim.Optimizer
    ema_decay: float = 0.0
    schedule_free: bool = False

    def __post_init__(self) -> None:
        self.network: TrainedWan = unwrapped(self.model)
        self.parameters = trainable(self.network)
        self.optimizer_state = OptimizerState(self.optimizer, self.parameters, self.launch)
        self.ema = Ema(self.parameters, self.ema_decay) if self.ema_decay else None
        self.average: Ema | ScheduleFreeAverage | None = self.ema
        if self.schedule_free:
            self.average = ScheduleFreeAverage(self.parameters, self.optimizer)
        self._prefix = f"{self.name}/" if self.name else ""
        self._away: list[tuple[Tensor, torch.device]] = []

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors of a checkpoint, gathered on the CPU; a collective call."""
        for name, parameter in self.parameters.items():
            yield f"{self._prefix}weights/{name}", self.launch.whole(parameter)
            if self.ema is not None:
                yield f"{self._prefix}ema/{name}", self.launch.whole(self.ema.values[name])
        for name, value in self.optimizer_state.tensors():
            yield f"{self._prefix}{name}", value

    @torch.no_grad()
    def load_state(self, saved: Mapping[str, Tensor], numbers: Numbers) -> None:
        """Restore what :meth:`state` yielded, and the numbers of the optimiser."""
        start = len(self._prefix)
        tensors = {name[start:]: value for name, value in saved.items() if name.startswith(self._prefix)}
        for name, parameter in self.parameters.items():
            parameter.copy_(self.launch.like(tensors[f"weights/{name}"], parameter))
            if self.ema is not None:
                self.ema.values[name].copy_(self.launch.like(tensors[f"ema/{name}"], parameter))
        self.optimizer_state.load(tensors, numbers)

    def leave(self) -> None:
        """Move everything that is on the device to main memory."""
        if self.network.swap is not None:
            self.network.swap.leave()
        averages = self.ema.values.values() if self.ema is not None else ()
        weights = (*self.network.parameters(), *self.network.buffers(), *averages)
        self._away = [(value, value.device) for value in weights if value.device.type != "cpu"]
        for value, _ in self._away:
            value.data = value.data.cpu()
        self._optimizer_follows()

    def come_back(self) -> None:
        for value, device in self._away:
            value.data = value.data.to(device)
        self._away = []
        self._optimizer_follows()

    def _optimizer_follows(self) -> None:
        """Its state may have been loaded while the weights were away. A single number can be anywhere."""
        for parameter, state in self.optimizer.state.items():
            for value in state.values():
                if isinstance(value, Tensor) and value.ndim:
                    value.data = value.data.to(parameter.device)


class Residency:
    """Has one expert at a time on the device: the one that was called last. At first all of them are away."""

    def __init__(self, experts: Sequence[Expert]) -> None:
        self.resident: Expert | None = None
        for expert in experts:
            expert.network.register_forward_pre_hook(self._bringing(expert))

    def _bringing(self, expert: Expert) -> Any:
        return lambda *_: self.bring(expert)

    def bring(self, expert: Expert) -> None:
        if self.resident is expert:
            return
        if self.resident is not None:
            self.resident.leave()
        expert.come_back()
        self.resident = expert
