"""Memory and time of a run, estimated from shapes and a measured matmul speed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..media.vae import STRIDE
from ..model.config import WanConfig
from ..model.device import DTYPES
from ..sampling.keyframes import latent_length
from ..weights.checkpoints import Checkpoint, expected_shapes
from .config import Config
from .eight_bits import held_in_eight_bits
from .network import ModelSource, trained_count
from .optimizer import STATE_BYTES
from .swap import SLOTS

PROBE_SECONDS = 0.2
# activations of size [B, N, dim] that a block saves for its backward pass: norms, modulated inputs, q k v before and
# after norm and rotation, attention outputs, residuals, for both attentions; and those of size [B, N, ffn_dim]
BLOCK_TENSORS, FFN_TENSORS = 24, 2
# with a level for every token, also the scales and gates of both modulations, which are views otherwise
TOKEN_LEVEL_TENSORS = 4


@dataclass(frozen=True)
class Estimate:
    """Bytes per process: ``weights``, ``training`` (gradients, optimiser state, EMA), ``activations``.

    ``main_memory``: what is kept there of swapped blocks, offloaded activations and another expert, beyond what every
    run needs. PyTorch rounds pinned memory up to a power of two.
    """

    weights: int
    training: int
    activations: int
    main_memory: int
    trained: int
    flops: float
    seconds_per_step: float

    @property
    def memory(self) -> int:
        return self.weights + self.training + self.activations


def estimate(source: ModelSource, config: Config, device: torch.device) -> Estimate:
    """For the largest bucket. The time is that of the matrix products and attentions, at the speed measured here."""
    options, shape = config.train, source.checkpoint.config
    dtype = DTYPES[config.model.dtype]
    resident, swapped, passing = _weights(source.checkpoint, config, dtype.itemsize)
    block, inputs = _activations(shape, config, dtype.itemsize)
    offloaded = inputs if options.offload_checkpoints else []
    trained = trained_count(source, options)
    full = options.mode == "full"
    state = trained * (4 * (not full) + STATE_BYTES.get(options.optimizer, 8) + 4 * (options.ema > 0))
    main_memory = sum(map(_pinned, swapped)) + sum(map(_pinned, offloaded))
    if config.model.low_noise_checkpoint:
        main_memory += resident + sum(map(_pinned, swapped)) + state
    return Estimate(
        weights=resident + passing,
        training=state + 4 * trained,
        activations=block + sum(inputs) - sum(offloaded),
        main_memory=main_memory,
        trained=trained,
        flops=(flops := _flops(shape, config, trained)),
        seconds_per_step=flops / _speed(shape, dtype, device),
    )


def _pinned(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _weights(checkpoint: Checkpoint, config: Config, itemsize: int) -> tuple[int, list[int], int]:
    """Bytes of the weights that stay on the device, of each swapped block, and of what is on the device of those: two
    at a time, and one layer widened from 8 bits.
    """
    options, shapes = config.train, dict(expected_shapes(checkpoint.config))
    full = options.mode == "full"
    held = held_in_eight_bits(checkpoint, "full" if full else config.model.base_dtype)
    sizes = {name: torch.Size(shape).numel() * (4 if full else itemsize) for name, shape in shapes.items()}
    sizes |= {name: torch.Size(shapes[name]).numel() + 4 * shapes[name][0] for name in held}  # and the scales
    widened = max((torch.Size(shapes[name]).numel() * itemsize for name in held), default=0)
    blocks = [
        sum(size for name, size in sizes.items() if name.startswith(f"blocks.{index}."))
        for index in options.swapped_blocks(checkpoint.config.num_layers)
    ]
    slots = min(SLOTS, len(blocks)) * max(blocks, default=0)
    return sum(sizes.values()) - sum(blocks), blocks, slots + widened


def _tokens(shape: WanConfig, config: Config) -> int:
    frames, rows, columns = shape.patch_size
    return max(
        latent_length(source.longest) // frames * (width // STRIDE // columns) * (height // STRIDE // rows)
        for source in config.data.folders
        for width, height in source.sizes
    )


def _activations(shape: WanConfig, config: Config, itemsize: int) -> tuple[int, list[int]]:
    """Bytes that one block saves, and of each block's input; without gradient checkpointing, what all blocks save."""
    stream = config.train.batch * _tokens(shape, config) * itemsize
    tensors = BLOCK_TENSORS + (TOKEN_LEVEL_TENSORS if config.train.p_region else 0)
    block = stream * (tensors * shape.dim + FFN_TENSORS * shape.ffn_dim)
    if not config.train.gradient_checkpointing:
        return block * shape.num_layers, []
    return block, [stream * shape.dim] * shape.num_layers


def _flops(shape: WanConfig, config: Config, trained: int) -> float:
    """Matmul FLOPs of a step in one process, with fused attention."""
    tokens, options = _tokens(shape, config), config.train
    forward = 1 + options.gradient_checkpointing
    linear = 2 * (6 * shape.dim**2 + 2 * shape.dim * shape.ffn_dim)  # self-attention, cross-attention's q and o, ffn
    attention = 4 * tokens * shape.dim * (forward + 2.5)  # the backward pass recomputes the scores
    if options.mode == "full":
        block = linear * (forward + 2) + attention
    else:
        block = linear * (forward + 1) + attention + 2 * trained / shape.num_layers * (forward + 2)
    return float(shape.num_layers * tokens * block * options.batch * options.accumulate)


def _speed(shape: WanConfig, dtype: torch.dtype, device: torch.device) -> float:
    """FLOPs per second of a matrix product of the model's width."""
    rows = 1024
    x = torch.randn(rows, shape.dim, device=device, dtype=dtype)
    weight = torch.randn(shape.ffn_dim, shape.dim, device=device, dtype=dtype)

    def multiply() -> None:
        torch.nn.functional.linear(x, weight)

    return 2 * rows * shape.dim * shape.ffn_dim / _seconds(multiply, device)


def _seconds(call: Callable[[], None], device: torch.device) -> float:
    finish = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    call()
    finish()
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < PROBE_SECONDS:
        call()
        finish()
        calls += 1
    return (time.perf_counter() - started) / calls
