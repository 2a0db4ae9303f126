"""The state of an optimiser in a checkpoint: tensors, and numbers as JSON.

What an optimiser counts is in its state of each parameter (the moments of Adam), or in its groups (the step of
schedule-free AdamW, the distance of Prodigy).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from .launch import Launch

STATE, GROUP = "optimizer", "optimizer_group"
Numbers = dict[str, dict[str, Any]]


class OptimizerState:
    """Saves and restores ``optimizer``, which has not made a step yet.

    ``parameters``: all of its parameters by name.
    """

    def __init__(self, optimizer: Any, parameters: Mapping[str, nn.Parameter], launch: Launch) -> None:
        self.optimizer, self.parameters, self.launch = optimizer, parameters, launch
        self._built = [dict(group) for group in optimizer.param_groups]

    def _counted(self) -> Iterator[tuple[str, str, Any]]:
        """Kind, name and value of everything that a step may have changed, but for the learning rate of the step."""
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                yield STATE, f"{name}/{key}", value
        for index, (group, built) in enumerate(zip(self.optimizer.param_groups, self._built, strict=True)):
            for key, value in group.items():
                if key not in ("params", "lr") and (isinstance(value, Tensor) or value != built.get(key, ...)):
                    yield GROUP, f"{index}/{key}", value

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """A collective call; on the CPU."""
        for kind, name, value in self._counted():
            if isinstance(value, Tensor):
                yield f"{kind}/{name}", self.launch.whole(value)

    def numbers(self) -> Numbers:
        """Everything else, for JSON, which keeps a float exactly."""
        found: Numbers = {STATE: {}, GROUP: {}}
        for kind, name, value in self._counted():
            if not isinstance(value, Tensor):
                if not isinstance(value, bool | int | float | str | None):
                    raise TypeError(f"{name} of the optimiser is of type {type(value).__name__}")
                found[kind][name] = value
        return found

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore what :meth:`tensors` and :meth:`numbers` gave."""
        for full_name, tensor in tensors.items():
            kind, _, name = full_name.partition("/")
            if kind in (STATE, GROUP):
                self._set(kind, name, tensor)
        for kind, values in numbers.items():
            for name, value in values.items():
                self._set(kind, name, value)

    def _set(self, kind: str, name: str, value: Any) -> None:
        owner, _, key = name.rpartition("/")
        if kind == GROUP:
            group = self.optimizer.param_groups[int(owner)]
            group[key] = value.to(group["params"][0].device) if isinstance(value, Tensor) else value
            return
        parameter = self.parameters[owner]
        if isinstance(value, Tensor):
            value = self._placed(value, parameter)
        self.optimizer.state[parameter][key] = value

    def _placed(self, value: Tensor, parameter: nn.Parameter) -> Tensor | int:
        if value.ndim:
            return self.launch.like(value, parameter)
        # the step count: an fp32 CPU tensor in PyTorch; older versions of this trainer saved an int of bitsandbytes so
        return value if value.is_floating_point() else int(value)
