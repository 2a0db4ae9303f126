"""One process, or many started by ``accelerate launch``, behind the same few calls."""

import contextlib
import os
from typing import Any

import torch
from torch import Tensor, nn

from .config import TrainOptions


def best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class Launch:
    """A single process on one device."""

    rank, world = 0, 1

    def __init__(self, options: TrainOptions) -> None:
        self.device = torch.device(options.device or best_device())

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        return model, optimizer

    def accumulate(self, model: nn.Module, last: bool) -> contextlib.AbstractContextManager:
        """Around one of several backward passes that make a step; processes need to meet only in the last."""
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip(self, parameters: list[nn.Parameter], limit: float) -> None:
        nn.utils.clip_grad_norm_(parameters, limit)

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes."""
        return value

    def any(self, flag: bool) -> bool:
        """Whether a flag is set in any process."""
        return flag

    def wait(self) -> None:
        """Until every process is here."""


class AcceleratedLaunch(Launch):
    """One of several processes; DDP, FSDP2 or DeepSpeed, as ``accelerate launch`` was told."""

    def __init__(self, options: TrainOptions) -> None:
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=options.device == "cpu")
        self.device = self.accelerator.device
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        if (plugin := self.accelerator.state.deepspeed_plugin) is not None:
            plugin.deepspeed_config |= {
                "train_micro_batch_size_per_gpu": options.batch,
                "gradient_accumulation_steps": options.accumulate,
                "gradient_clipping": options.clip,
            }

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        return self.accelerator.prepare(model, optimizer)

    def accumulate(self, model: nn.Module, last: bool) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext() if last else self.accelerator.no_sync(model)

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def clip(self, parameters: list[nn.Parameter], limit: float) -> None:
        self.accelerator.clip_grad_norm_(parameters, limit)

    def mean(self, value: Tensor) -> Tensor:
        return self.accelerator.reduce(value, reduction="mean")

    def any(self, flag: bool) -> bool:
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.device)).item())

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()


def launch(options: TrainOptions) -> Launch:
    """What this process was started as."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return AcceleratedLaunch(options)
    return Launch(options)


def unwrapped(module: Any) -> Any:
    """A model without DDP's shell, an optimiser without accelerate's."""
    return getattr(module, "module", getattr(module, "optimizer", module))
