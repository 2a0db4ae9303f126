"""The trained network: the DiT with LoRA layers, gradient checkpointing, offloading and block swap."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..model.attention import Attention, Block, attention, attention_by
from ..model.compile import compiled
from ..model.device import DTYPES
from ..model.dit import WanModel
from ..weights.checkpoints import Checkpoint, expected_shapes, read_checkpoint
from ..weights.lora import Lora, load_lora
from ..weights.quantised import FP8
from .adapters import TARGETS, LoraLinear, attach_lora, check_rank, check_start, replace_layer, start_from
from .config import Config, TrainOptions
from .eight_bits import EightBitLinear, eight_bits, held_in_eight_bits
from .sources import BaseDtype
from .swap import BlockSwap


class TrainedWan(WanModel):
    """A :class:`WanModel` with fp32 inputs that computes in its own dtype, or in bf16 with fp32 weights (``autocast``).

    ``checkpointing``: gradient checkpointing per block. ``offload``: keep saved activations in main memory. ``swap``:
    has the frozen weights of some blocks in main memory. ``compiled``: what runs in place of the blocks in training.
    ``attend``: the attention kernel.
    """

    _no_split_modules = ("WanBlock",)  # accelerate shards the model block by block

    checkpointing = False
    compiled: Sequence[Block] | None = None
    attend: Attention = staticmethod(attention)
    offload = False
    swap: BlockSwap | None = None
    autocast = False

    def forward(self, latents: Tensor, timestep: Tensor, context: Tensor, **kwargs: Any) -> Tensor:
        dtype = self.patch_embedding.weight.dtype
        recompute = self.checkpointing and torch.is_grad_enabled()
        compiled = self.compiled if self.training and torch.is_grad_enabled() else None
        blocks: list[Callable[..., Tensor]] = list(compiled or self.blocks)
        kwargs.setdefault("attend", self.attend)
        if self.swap is not None:
            blocks = [self.swap.around(index, block) for index, block in enumerate(blocks)]
        if recompute:
            blocks = [partial(checkpoint, block, use_reentrant=False) for block in blocks]
        cuda = latents.device.type == "cuda"
        saved = torch.autograd.graph.save_on_cpu(pin_memory=cuda) if recompute and self.offload else None
        with (
            saved or contextlib.nullcontext(),
            torch.autocast(latents.device.type, torch.bfloat16, enabled=self.autocast),
        ):
            return super().forward(latents.to(dtype), timestep, context.to(dtype), blocks=blocks, **kwargs)


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

    Raises ``ValueError`` for anything but a text-to-video Wan model, a rank above a layer's, more swapped blocks than
    there are, a ``model.base_dtype`` or an initial LoRA that does not fit.
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
    if config.train.swap_blocks > source.config.num_layers:
        raise ValueError(
            f"train.swap_blocks is {config.train.swap_blocks}; use 0 to {source.config.num_layers}, the model's blocks"
        )
    if config.model.base_dtype == "int8" and any(weight.dtype in FP8 for weight in source.weights.values()):
        raise ValueError(
            f"model.base_dtype is int8, but {source.name} is in fp8; use auto, which keeps it as it is, or full"
        )
    return ModelSource(source, start)


def build_network(
    source: ModelSource, config: Config, device: torch.device | str
) -> tuple[TrainedWan, dict[str, LoraLinear]]:
    """The network in training mode, and its LoRA layers by name (none in full fine-tuning).

    LoRA initialisation depends on the seed alone. Raises ``ValueError`` for weights that are NaN or infinite.
    """
    options = config.train
    full = options.mode == "full"
    dtype = torch.float32 if full else DTYPES[config.model.dtype]
    device = torch.device(device)
    model = TrainedWan(source.checkpoint.config, device="meta")
    swapped = options.swapped_blocks(len(model.blocks))
    _load_weights(model, source.checkpoint, "full" if full else config.model.base_dtype, dtype, device, swapped)
    model.checkpointing, model.offload = options.gradient_checkpointing, options.offload_checkpoints
    model.attend = attention_by(options.attention)
    model.autocast = full and config.model.dtype == "bf16"
    if full:
        return _compiled(model.train().requires_grad_(True), options), {}
    torch.manual_seed(options.seed)
    adapters = attach_lora(model, options.rank, options.alpha or options.rank, options.dropout, device)
    if source.start is not None:
        start_from(adapters, source.start)
    if swapped:
        model.swap = BlockSwap(list(model.blocks), swapped, device)
    return _compiled(model.train(), options), adapters


def _compiled(model: TrainedWan, options: TrainOptions) -> TrainedWan:
    model.compiled = [compiled(block) for block in model.blocks] if options.compile else None
    return model


def _load_weights(
    model: TrainedWan,
    checkpoint: Checkpoint,
    base: BaseDtype,
    dtype: torch.dtype,
    device: torch.device,
    swapped: Sequence[int],
) -> None:
    """One weight at a time: a file in another dtype is never in memory twice. Those of swapped blocks stay on the CPU.

    They are copies: a memory-mapped weight must not be written to, nor depend on the file.
    """
    away = tuple(f"blocks.{index}." for index in swapped)
    held = held_in_eight_bits(checkpoint, base)
    weights = {}
    for name in checkpoint.weights:
        home = torch.device("cpu") if name.startswith(away) else device
        if name in held:
            layer = name.removesuffix(".weight")
            replace_layer(model, layer, EightBitLinear(model.get_submodule(layer)))
            weights[name], weights[f"{layer}.scale"] = eight_bits(checkpoint, name, base, home)
        else:
            weights[name] = checkpoint.dequantised_weight(name).to(home, dtype, copy=True)
    model.load_state_dict(weights, assign=True)


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
