"""Sequence parallelism: one video on many GPUs (DeepSpeed-Ulysses, arXiv 2309.14509).

The tokens of *every* latent frame are sharded into bands of rows or columns, so that every process needs the modulation
of all frames and applies it as a single process would. Around self-attention an all-to-all swaps the sharded axis, from
tokens to heads and back.

``torchrun --nproc-per-node 4 -m pusa_core generate ...`` uses it; ``torch.distributed`` must be initialised.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .attention import Attention, Block, attention, hook_self_attention
from .axes import rearrange
from .dit import WanModel
from .rope import PLAIN, Axes

T = TypeVar("T")


def process_count() -> int:
    """The number of processes that ``torchrun`` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Initialise the default process group under ``torchrun``; yields this process's device. A no-op otherwise."""
    if process_count() == 1:
        yield device
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this is rank 0, which reads inputs and writes results, or the only process."""
    return not dist.is_initialized() or dist.get_rank() == 0


def from_first(value: T | None) -> T:
    """Broadcast ``value`` of rank 0 to all processes."""
    values = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(values)
    return cast(T, values[0])


class SequenceParallel(nn.Module):
    """``model`` sharded over the default process group: every rank passes the same inputs and gets the same result.

    Raises:
        ValueError: the number of heads is not divisible by the number of processes, or a frame has too few tokens.
    """

    def __init__(self, model: WanModel) -> None:
        super().__init__()
        self.model, self.source = model, model.source
        heads, self.size, self.rank = model.config.num_heads, dist.get_world_size(), dist.get_rank()
        if heads % self.size:
            fits = [str(count) for count in range(1, heads + 1) if heads % count == 0]
            raise ValueError(f"{heads} heads cannot be split among {self.size} processes; use {', '.join(fits)}")

    @property
    def blocks(self) -> nn.ModuleList:
        return self.model.blocks

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        attend: Attention = attention,
        blocks: Iterable[Block] | None = None,
        rope_axes: Axes = PLAIN,
    ) -> Tensor:
        """As :meth:`WanModel.forward`."""
        patch = self.model.config.patch_size
        axis, bands = choose_bands([latents.shape[axis + 2] // patch[axis] for axis in range(3)], self.size)
        first = sum(bands[: self.rank])
        # positions are shifted to where this rank's band begins
        axes = list(rope_axes)
        scale, shift = axes[axis]
        axes[axis] = scale, shift + scale * first
        start, length = patch[axis] * first, patch[axis] * bands[self.rank]
        exchange = partial(self._attend, bands)
        velocity = self.model(
            latents.narrow(axis + 2, start, length).contiguous(),
            timestep if timestep.ndim < 4 else timestep.narrow(axis + 1, first, bands[self.rank]),
            context,
            attend=attend,
            blocks=[hook_self_attention(block, exchange) for block in (self.blocks if blocks is None else blocks)],
            rope_axes=(axes[0], axes[1], axes[2]),
        )
        whole = velocity.new_zeros(*velocity.shape[:2], *latents.shape[2:])
        whole.narrow(axis + 2, start, length).copy_(velocity)
        dist.all_reduce(whole)  # bands do not overlap: every value is added to zeros
        return whole

    def _attend(self, bands: list[int], attend: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention over all tokens in this rank's heads; returns this rank's tokens in all heads."""
        # tokens per rank; with a KV cache there are more keys than queries
        queries, keys = ([band * x.shape[1] // bands[self.rank] for band in bands] for x in (q, k))
        out = attend(self._tokens_for_heads(q, queries), *(self._tokens_for_heads(x, keys) for x in (k, v)))
        return self._heads_for_tokens(out, queries)

    def _tokens_for_heads(self, x: Tensor, counts: list[int]) -> Tensor:
        """All-to-all: its tokens ``[B, n, heads, d]`` -> all tokens in its heads, ``[B, N, heads / size, d]``."""
        sent = rearrange(x, "b n (size heads) d -> size b n heads d", size=self.size).contiguous()
        batch, _, heads, width = sent.shape[1:]
        received = _exchange(sent.flatten(), [sent[0].numel()] * self.size, [batch * n * heads * width for n in counts])
        return torch.cat([part.view(batch, -1, heads, width) for part in received], dim=1)

    def _heads_for_tokens(self, x: Tensor, counts: list[int]) -> Tensor:
        """All-to-all: all tokens ``[B, N, D / size]`` -> this rank's tokens in all heads ``[B, n, D]``."""
        sent = [part.flatten() for part in x.split(counts, dim=1)]
        own = x.shape[0] * counts[self.rank] * x.shape[2]
        received = _exchange(torch.cat(sent), [part.numel() for part in sent], [own] * self.size)
        return torch.cat([part.view(x.shape[0], -1, x.shape[2]) for part in received], dim=-1)


def parallelise(model: WanModel) -> nn.Module:
    """``model``, sharded if a process group is initialised."""
    return SequenceParallel(model) if dist.is_initialized() else model


def choose_bands(grid: list[int], parts: int) -> tuple[int, list[int]]:
    """The axis of the token grid (1: rows, 2: columns) that splits most evenly, and each rank's share of it.

    Raises ``ValueError`` when a frame has fewer rows and columns than there are processes.
    """
    axes = [axis for axis in (1, 2) if grid[axis] >= parts]
    if not axes:
        raise ValueError(f"a frame of {grid[1]} x {grid[2]} tokens cannot be split among {parts} processes; use fewer")
    axis = min(axes, key=lambda axis: -(-grid[axis] // parts) / grid[axis])
    return axis, [grid[axis] // parts + (part < grid[axis] % parts) for part in range(parts)]


def _exchange(sent: Tensor, lengths: list[int], received_lengths: list[int]) -> tuple[Tensor, ...]:
    received = sent.new_empty(sum(received_lengths))
    dist.all_to_all_single(received, sent, received_lengths, lengths)
    return received.split(received_lengths)
