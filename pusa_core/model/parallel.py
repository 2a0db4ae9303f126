"""One video on many GPUs: every process computes a band of each latent frame, and some heads of the attention.

A band is a range of rows or columns of tokens of *every* frame. A token's time is its frame's, so every process has all
frames' modulation and applies it to its own tokens as one process would. Only the attention needs other tokens: heads
are exchanged for tokens before it and back after it (DeepSpeed-Ulysses, arXiv 2309.14509).

``torchrun --nproc-per-node 4 -m pusa_core generate ...`` uses it; ``torch.distributed`` must be set up.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .attention import Attention, attention
from .dit import WanModel
from .rope import PLAIN, Axes

T = TypeVar("T")


def process_count() -> int:
    """How many processes ``torchrun`` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Join the processes that ``torchrun`` started; the device of this one. Alone, nothing is set up."""
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
    """Whether this process is the only one, or the one that reads inputs and writes results."""
    return not dist.is_initialized() or dist.get_rank() == 0


def from_first(value: T | None) -> T:
    """The first process's ``value``, in every process."""
    values = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(values)
    return cast(T, values[0])


class SequenceParallel(nn.Module):
    """``model`` in all processes of the default group together: same inputs and same result in each of them.

    Raises:
        ValueError: the heads cannot be split among the processes, or a frame is smaller than their number.
    """

    def __init__(self, model: WanModel) -> None:
        super().__init__()
        self.model = model
        heads, self.size, self.rank = model.config.num_heads, dist.get_world_size(), dist.get_rank()
        if heads % self.size:
            fits = [str(count) for count in range(1, heads + 1) if heads % count == 0]
            raise ValueError(f"{heads} heads cannot be split among {self.size} processes; use {', '.join(fits)}")

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        attend: Attention = attention,
        rope_axes: Axes = PLAIN,
        **kept: Any,
    ) -> Tensor:
        """As :meth:`WanModel.forward`."""
        patch = self.model.config.patch_size
        axis, bands = choose_bands([latents.shape[axis + 2] // patch[axis] for axis in range(3)], self.size)
        first = sum(bands[: self.rank])
        # the band's positions begin where the band does
        axes = list(rope_axes)
        scale, shift = axes[axis]
        axes[axis] = scale, shift + scale * first
        start, length = patch[axis] * first, patch[axis] * bands[self.rank]
        velocity = self.model(
            latents.narrow(axis + 2, start, length).contiguous(),
            timestep,
            context,
            attend=attend,
            rope_axes=(axes[0], axes[1], axes[2]),
            self_attend=partial(self._attend, bands, attend),
            **kept,
        )
        whole = velocity.new_zeros(*velocity.shape[:2], *latents.shape[2:])
        whole.narrow(axis + 2, start, length).copy_(velocity)
        dist.all_reduce(whole)  # every value is added to zeros
        return whole

    def _attend(self, bands: list[int], attend: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of all tokens in this process's heads; the result for this process's tokens in all heads."""
        # how many tokens each process has: there may be more keys than queries
        queries, keys = ([band * x.shape[1] // bands[self.rank] for band in bands] for x in (q, k))
        out = attend(self._tokens_for_heads(q, queries), *(self._tokens_for_heads(x, keys) for x in (k, v)))
        return self._heads_for_tokens(out, queries)

    def _tokens_for_heads(self, x: Tensor, counts: list[int]) -> Tensor:
        """``[B, n, heads, d]`` of this process's tokens -> ``[B, N, heads / size, d]`` of all tokens."""
        sent = x.unflatten(2, (self.size, -1)).permute(2, 0, 1, 3, 4).contiguous()  # [size, B, n, heads / size, d]
        batch, _, heads, width = sent.shape[1:]
        received = _exchange(sent.flatten(), [sent[0].numel()] * self.size, [batch * n * heads * width for n in counts])
        return torch.cat([part.view(batch, -1, heads, width) for part in received], dim=1)

    def _heads_for_tokens(self, x: Tensor, counts: list[int]) -> Tensor:
        """``[B, N, D / size]`` of all tokens -> ``[B, n, D]`` of this process's tokens."""
        sent = [part.flatten() for part in x.split(counts, dim=1)]
        own = x.shape[0] * counts[self.rank] * x.shape[2]
        received = _exchange(torch.cat(sent), [part.numel() for part in sent], [own] * self.size)
        return torch.cat([part.view(x.shape[0], -1, x.shape[2]) for part in received], dim=-1)


def in_all_processes(model: WanModel) -> nn.Module:
    """``model`` itself, or shared with the other processes if there are any."""
    return SequenceParallel(model) if dist.is_initialized() else model


def choose_bands(grid: list[int], parts: int) -> tuple[int, list[int]]:
    """The axis of the grid (1: rows, 2: columns) that splits most evenly, and how much of it each process gets.

    Raises ``ValueError`` when a frame has neither rows nor columns enough.
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
