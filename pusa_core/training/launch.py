"""One process, or many started by ``accelerate launch``, behind the same few calls."""

import contextlib
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..model.device import best_device
from .config import TrainOptions

PATIENCE = timedelta(days=1)  # of processes that wait while the first one encodes clips

SHARD = "zero"  # name of the folder that DeepSpeed makes


class Launch:
    """A single process on one device."""

    rank, world = 0, 1

    def __init__(self, options: TrainOptions) -> None:
        self.device = self.load_device = torch.device(options.device or best_device())
        self._parts = options.accumulate

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        return model, optimizer

    def accumulate(self, model: nn.Module) -> contextlib.AbstractContextManager:
        """Around each of the backward passes that make a step; processes need to meet only in the last."""
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        (loss / self._parts).backward()

    def clip(self, parameters: list[nn.Parameter], limit: float) -> float:
        """Scale the gradients down to a norm of ``limit``; the norm that they had."""
        return nn.utils.clip_grad_norm_(parameters, limit).item()

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes."""
        return value

    def any(self, flag: bool) -> bool:
        """Whether a flag is set in any process."""
        return flag

    def whole(self, value: Tensor) -> Tensor:
        """A tensor on the CPU, whole where processes hold parts of it; every process has to ask."""
        return value.detach().cpu()

    def like(self, value: Tensor, parameter: Tensor) -> Tensor:
        """A whole tensor where, and in the parts in which, ``parameter`` is held."""
        return value.to(parameter.device)

    def save_shards(self, folder: Path) -> Path | None:
        """Write what only DeepSpeed knows, the parts of its optimiser, into a folder; None where there is nothing."""
        return None

    def load_shards(self, folder: Path) -> None:
        """Put back what :meth:`save_shards` wrote."""

    def wait(self) -> None:
        """Until every process is here."""

    def end(self) -> None:
        """Take leave of the other processes."""


class AcceleratedLaunch(Launch):
    """One of several processes; DDP, FSDP2 or DeepSpeed, as ``accelerate launch`` was told."""

    def __init__(self, options: TrainOptions) -> None:
        from accelerate import Accelerator, InitProcessGroupKwargs

        if options.offload_weights:
            raise ValueError(
                "train.offload_weights works in one process; turn it off, or take FSDP2, which shards them"
            )
        super().__init__(options)
        self.accelerator = Accelerator(
            cpu=options.device == "cpu",
            mixed_precision="no",  # the network itself says what is computed in which precision
            gradient_accumulation_steps=options.accumulate,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
        self.device = self.accelerator.device
        sharded = getattr(self.accelerator.state, "fsdp_plugin", None) is not None
        self.load_device = torch.device("cpu") if sharded else self.device
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self._engine: Any = None
        if (plugin := self.accelerator.state.deepspeed_plugin) is not None:
            plugin.deepspeed_config |= {
                "train_micro_batch_size_per_gpu": options.batch,
                "gradient_accumulation_steps": options.accumulate,
                "gradient_clipping": options.clip,
            }

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        model, optimizer = self.accelerator.prepare(model, optimizer)
        self._engine = model if self.accelerator.state.deepspeed_plugin is not None else None
        return model, optimizer

    def accumulate(self, model: nn.Module) -> contextlib.AbstractContextManager:
        return self.accelerator.accumulate(model)

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def clip(self, parameters: list[nn.Parameter], limit: float) -> float:
        norm = self.accelerator.clip_grad_norm_(parameters, limit)  # DeepSpeed tells none before its first step
        return 0.0 if norm is None else float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def mean(self, value: Tensor) -> Tensor:
        return self.accelerator.reduce(value, reduction="mean")

    def any(self, flag: bool) -> bool:
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.device)).item())

    def whole(self, value: Tensor) -> Tensor:
        return super().whole(value.full_tensor() if hasattr(value, "full_tensor") else value)

    def like(self, value: Tensor, parameter: Tensor) -> Tensor:
        from torch.distributed.tensor import DTensor, distribute_tensor

        if not isinstance(parameter, DTensor):
            return super().like(value, parameter)
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)

    def save_shards(self, folder: Path) -> Path | None:
        if self._engine is None:
            return None
        self._engine.save_checkpoint(str(folder), SHARD, save_latest=False, exclude_frozen_parameters=True)
        return folder

    def load_shards(self, folder: Path) -> None:
        if self._engine is not None:
            self._engine.load_checkpoint(str(folder), SHARD, load_module_strict=False)

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    def end(self) -> None:
        self.accelerator.end_training()


def launch(options: TrainOptions) -> Launch:
    """What this process was started as."""
    if "ACCELERATE_MIXED_PRECISION" in os.environ or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return AcceleratedLaunch(options)
    return Launch(options)


def unwrapped(module: Any) -> Any:
    """A model without DDP's shell, an optimiser without accelerate's."""
    return getattr(module, "module", getattr(module, "optimizer", module))
