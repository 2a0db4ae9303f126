"""One interface for a single process and for many under ``accelerate launch``."""

import contextlib
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..model.device import best_device
from .config import TrainOptions

T = TypeVar("T")
PATIENCE = timedelta(days=1)  # collective timeout while rank 0 encodes clips

SHARD = "zero"  # tag of DeepSpeed checkpoints


class Launch:
    """A single process on one device."""

    rank, world = 0, 1
    sharded = False  # no process has all of the weights or of the optimiser
    alone = False  # the other processes have failed; nobody is waited for

    def __init__(self, options: TrainOptions) -> None:
        self.device = self.load_device = torch.device(options.device or best_device())
        self._parts = options.accumulate

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        return model, optimizer

    def accumulate(self, model: nn.Module) -> contextlib.AbstractContextManager:
        """Context of each micro-batch of a step; gradients are synchronised in the last."""
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        (loss / self._parts).backward()

    def clip(self, parameters: list[nn.Parameter], limit: float) -> float:
        """Clip gradients to a norm of ``limit``; returns the norm before."""
        return nn.utils.clip_grad_norm_(parameters, limit).item()

    def mean(self, value: Tensor) -> Tensor:
        """Mean over all processes."""
        return value

    def first(self, work: Callable[[], T]) -> T:
        """The result of ``work`` in process 0, in every process; the others wait for it. Its error likewise."""
        return work()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag

    def whole(self, value: Tensor) -> Tensor:
        """The full tensor on the CPU; gathers shards, so every process has to call it."""
        return value.detach().cpu()

    def like(self, value: Tensor, parameter: Tensor) -> Tensor:
        """A full tensor placed and sharded like ``parameter``."""
        return value.to(parameter.device)

    def save_shards(self, folder: Path) -> Path | None:
        """Write DeepSpeed's sharded optimiser state to a folder; None without DeepSpeed."""
        return None

    def load_shards(self, folder: Path) -> None:
        """Load what :meth:`save_shards` wrote."""

    def wait(self) -> None:
        """Barrier over all processes."""

    def end(self) -> None:
        """Leave the process group."""


class AcceleratedLaunch(Launch):
    """One of several processes: DDP, FSDP2 or DeepSpeed, as configured for ``accelerate launch``."""

    def __init__(self, options: TrainOptions) -> None:
        from accelerate import Accelerator, InitProcessGroupKwargs

        super().__init__(options)
        self.accelerator = Accelerator(
            cpu=options.device == "cpu",
            mixed_precision="no",  # the network casts by itself
            gradient_accumulation_steps=options.accumulate,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
        self.device = self.accelerator.device
        sharded = getattr(self.accelerator.state, "fsdp_plugin", None) is not None
        self.load_device = torch.device("cpu") if sharded else self.device
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self._engine: Any = None
        self.sharded = sharded or self.accelerator.state.deepspeed_plugin is not None
        if self.sharded and not options.optimizer.startswith("adamw"):
            raise ValueError(
                f"train.optimizer {options.optimizer} needs whole weights, which FSDP2 and DeepSpeed divide; "
                f"use DDP, or adamw"
            )
        if self.sharded and (options.swap_blocks or options.offload_weights):
            raise ValueError(
                "train.swap_blocks and train.offload_weights do not work with FSDP2 and DeepSpeed, which place the "
                "weights themselves; turn them off, or use DDP"
            )
        if self.sharded and options.compile:
            raise ValueError("train.compile works in one process and with DDP; turn it off for FSDP2 and DeepSpeed")
        if (plugin := self.accelerator.state.deepspeed_plugin) is not None:
            plugin.deepspeed_config |= {
                "train_micro_batch_size_per_gpu": options.batch,
                "gradient_accumulation_steps": options.accumulate,
                "gradient_clipping": options.clip,
            }

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        if self.sharded:
            model, optimizer = self.accelerator.prepare(model, optimizer)
        else:
            # frozen weights are the same in every process; those of swapped blocks are to stay in main memory
            frozen = [name for name, value in model.named_parameters() if not value.requires_grad]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, frozen)
            model, optimizer = self.accelerator.prepare(model, optimizer, device_placement=[False, True])
        self._engine = model if self.accelerator.state.deepspeed_plugin is not None else None
        return model, optimizer

    def accumulate(self, model: nn.Module) -> contextlib.AbstractContextManager:
        return self.accelerator.accumulate(model)

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def clip(self, parameters: list[nn.Parameter], limit: float) -> float:
        norm = self.accelerator.clip_grad_norm_(parameters, limit)  # None from DeepSpeed before its first step
        return 0.0 if norm is None else float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def mean(self, value: Tensor) -> Tensor:
        return self.accelerator.reduce(value, reduction="mean")

    def first(self, work: Callable[[], T]) -> T:
        from accelerate.utils import broadcast_object_list

        result: list[Any] = [None, ""]
        error: Exception | None = None
        if self.rank == 0:
            try:
                result[0] = work()
            except Exception as failure:
                error, result[1] = failure, str(failure) or type(failure).__name__
        broadcast_object_list(result)
        if error is not None:
            raise error
        if result[1]:
            raise ValueError(result[1])
        return result[0]

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
        if (self._engine is not None) != folder.exists():
            was, now = ("with", "without") if folder.exists() else ("without", "with")
            raise ValueError(
                f"the checkpoint {folder.parent} was made {was} DeepSpeed; it cannot be resumed {now} it: start it as "
                f"before"
            )
        if self._engine is not None:
            self._engine.load_checkpoint(str(folder), SHARD, load_module_strict=False)

    def wait(self) -> None:
        if not self.alone:
            self.accelerator.wait_for_everyone()

    def end(self) -> None:
        if not self.alone:
            self.accelerator.end_training()


def launch(options: TrainOptions) -> Launch:
    """The launch that this process was started with."""
    if "ACCELERATE_MIXED_PRECISION" in os.environ or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return AcceleratedLaunch(options)
    return Launch(options)


def unwrapped(module: Any) -> Any:
    """The model inside DDP's wrapper, the optimiser inside accelerate's."""
    return getattr(module, "module", getattr(module, "optimizer", module))
