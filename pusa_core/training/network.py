"""The trained network: the DiT with LoRA layers, gradient checkpointing and offloading."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..model.device import DTYPES
from ..model.dit import WanModel
from ..weights.checkpoints import Checkpoint, expected_shapes, read_checkpoint
from ..weights.lora import Lora, load_lora
from .adapters import TARGETS, LoraLinear, attach_lora, check_rank, check_start, start_from
from .config import Config, TrainOptions


class TrainedWan(WanModel):
    """A :class:`WanModel` with fp32 inputs that computes in its own dtype, or in bf16 with fp32 weights (``autocast``).

    ``checkpointing``: gradient checkpointing per block. ``offload``: keep saved activations in main memory.
    ``offload_weights``: keep frozen block weights in main memory and copy them to the device for each use.
    """

    _no_split_modules = ("WanBlock",)  # accelerate shards the model block by block

    checkpointing = False
    offload = False
    offload_weights = False
    autocast = False

    def forward(self, latents: Tensor, timestep: Tensor, context: Tensor, **kwargs: Any) -> Tensor:
        dtype = self.patch_embedding.weight.dtype
        recompute = self.checkpointing and torch.is_grad_enabled()
        blocks: list[Callable[..., Tensor]] = list(self.blocks)
        if self.offload_weights:
            blocks = [partial(with_weights_on, latents.device, block) for block in self.blocks]
        if recompute:
            blocks = [partial(checkpoint, block, use_reentrant=False) for block in blocks]
        cuda = latents.device.type == "cuda"
        saved = torch.autograd.graph.save_on_cpu(pin_memory=cuda) if recompute and self.offload else None
        with (
            saved or contextlib.nullcontext(),
            torch.autocast(latents.device.type, torch.bfloat16, enabled=self.autocast),
        ):
            return super().forward(latents.to(dtype), timestep, context.to(dtype), blocks=blocks, **kwargs)


def with_weights_on(device: torch.device, block: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
    """Run a block with copies of its frozen weights on ``device``.

    Autograd holds the copies until the block's backward pass is done. With gradient checkpointing that starts with the
    recomputation, so that only one block is on the device at a time.
    """
    fetched = {
        name: value.to(device, non_blocking=True, copy=True)
        for name, value in block.named_parameters()
        if not value.requires_grad
    }
    return torch.func.functional_call(block, fetched, args, kwargs)


@dataclass(frozen=True)
class ModelSource:
    """The network's files, parsed and checked; weights are not yet read."""

    checkpoint: Checkpoint
    start: Lora | None


def read_sources(config: Config) -> list[ModelSource]:
    """The source of ``model.checkpoint``, and of ``model.low_noise_checkpoint`` if there is one."""
    model = config.model
    sources = [read_source(config)]
    if model.low_noise_checkpoint:
        alone = replace(model, checkpoint=model.low_noise_checkpoint, init_lora=model.low_noise_init_lora)
        sources.append(read_source(replace(config, model=alone)))
        if sources[0].checkpoint.config != sources[1].checkpoint.config:
            raise ValueError(
                "model.checkpoint and model.low_noise_checkpoint differ in size; name the two experts of one model"
            )
    return sources


def read_source(config: Config) -> ModelSource:
    """Parse the model files and check them against the options.

    Raises ``ValueError`` for anything but a text-to-video Wan model, a rank above a layer's, or an initial LoRA that
    does not fit.
    """
    source = read_checkpoint(config.model.checkpoint)
    shapes = dict(expected_shapes(source.config))
    if config.train.mode == "full":
        if config.model.init_lora:
            raise ValueError("model.init_lora is set, but train.mode is full; merge the LoRA into the checkpoint first")
        return ModelSource(source, None)
    for name, shape in shapes.items():
        if TARGETS.fullmatch(name.removesuffix(".weight")):
            check_rank(config.train.rank, *shape)
    start = load_lora(config.model.init_lora) if config.model.init_lora else None
    if start is not None:
        check_start(start, shapes, config.train.rank)
    return ModelSource(source, start)


def build_network(
    source: ModelSource, config: Config, device: torch.device | str
) -> tuple[TrainedWan, dict[str, LoraLinear]]:
    """The network in training mode, and its LoRA layers by name (none in full fine-tuning).

    LoRA initialisation depends on the seed alone.
    """
    options = config.train
    full = options.mode == "full"
    dtype = torch.float32 if full else DTYPES[config.model.dtype]
    device = torch.device(device)
    model = TrainedWan(source.checkpoint.config, device="meta")
    # one weight at a time: a quantised file is never in memory twice
    weights = {
        name: _in_main_memory(weight, device, dtype)
        if options.offload_weights and name.startswith("blocks.")
        else _own(weight, device, dtype)
        for name, weight in source.checkpoint.dequantised()
    }
    model.load_state_dict(weights, assign=True)
    model.checkpointing, model.offload = options.gradient_checkpointing, options.offload_checkpoints
    model.offload_weights = options.offload_weights
    model.autocast = full and config.model.dtype == "bf16"
    if full:
        return model.train().requires_grad_(True), {}
    torch.manual_seed(options.seed)
    adapters = attach_lora(model, options.rank, options.alpha or options.rank, options.dropout, device)
    if source.start is not None:
        start_from(adapters, source.start)
    return model.train(), adapters


def _own(weight: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A copy: a memory-mapped weight must not be written to, nor depend on the file."""
    return weight.to(device, dtype, copy=True)


def _in_main_memory(weight: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A copy in main memory, pinned for a GPU."""
    own = _own(weight, torch.device("cpu"), dtype)
    return own.pin_memory() if device.type == "cuda" else own


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trained parameters by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def trained_count(source: ModelSource, options: TrainOptions) -> int:
    """Number of trained parameters."""
    shapes = dict(expected_shapes(source.checkpoint.config))
    if options.mode == "full":
        return sum(torch.Size(shape).numel() for shape in shapes.values())
    targets = (shape for name, shape in shapes.items() if TARGETS.fullmatch(name.removesuffix(".weight")))
    return sum(options.rank * (rows + columns) for rows, columns in targets)
