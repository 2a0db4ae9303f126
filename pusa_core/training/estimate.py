"""Memory and time of a run, estimated from shapes and a measured matmul speed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..media.vae import STRIDE
from ..model.config import WanConfig
from ..model.device import DTYPES
from ..sampling.keyframes import latent_length
from ..weights.checkpoints import expected_shapes
from .config import Config
from .network import ModelSource, trained_count
from .optimizer import STATE_BYTES

PROBE_SECONDS = 0.2
# activations of size [B, N, dim] that a block saves for its backward pass: norms, modulated inputs, q k v before and
# after norm and rotation, attention outputs, residuals, for both attentions; and those of size [B, N, ffn_dim]
BLOCK_TENSORS, FFN_TENSORS = 24, 2
# with a level for every token, also the scales and gates of both modulations, which are views otherwise
TOKEN_LEVEL_TENSORS = 4


@dataclass(frozen=True)
class Estimate:
    """Bytes per process: ``weights``, ``training`` (gradients, optimiser state, EMA), ``activations``."""

    weights: int
    training: int
    activations: int
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
    trained = trained_count(source, options)
    full = options.mode == "full"
    state = STATE_BYTES.get(options.optimizer, 8)
    return Estimate(
        weights=_weights_on_device(shape, options.offload_weights) * (4 if full else dtype.itemsize),
        training=trained * (4 * (not full) + 4 + state + 4 * (options.ema > 0)),
        activations=_activations(shape, config, dtype.itemsize),
        trained=trained,
        flops=(flops := _flops(shape, config, trained)),
        seconds_per_step=flops / _speed(shape, dtype, device),
    )


def _weights_on_device(shape: WanConfig, offloaded: bool) -> int:
    """Number of weights resident on the device; with offloading, those of one block at a time."""
    sizes = {name: torch.Size(size).numel() for name, size in expected_shapes(shape)}
    blocks = sum(size for name, size in sizes.items() if name.startswith("blocks."))
    return sum(sizes.values()) - (blocks - blocks // shape.num_layers if offloaded else 0)


def _tokens(shape: WanConfig, config: Config) -> int:
    frames, rows, columns = shape.patch_size
    return max(
        latent_length(source.longest) // frames * (width // STRIDE // columns) * (height // STRIDE // rows)
        for source in config.data.folders
        for width, height in source.sizes
    )


def _activations(shape: WanConfig, config: Config, itemsize: int) -> int:
    stream = config.train.batch * _tokens(shape, config) * itemsize
    tensors = BLOCK_TENSORS + (TOKEN_LEVEL_TENSORS if config.train.p_region else 0)
    block = stream * (tensors * shape.dim + FFN_TENSORS * shape.ffn_dim)
    if not config.train.gradient_checkpointing:
        return block * shape.num_layers
    kept = 0 if config.train.offload_checkpoints else stream * shape.dim * shape.num_layers
    return block + kept


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
