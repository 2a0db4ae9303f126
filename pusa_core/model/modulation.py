"""The vectors that tokens are modulated by: one per latent frame, or one per distinct level where levels vary within.

Whatever depends on the noise level alone is computed once per level. The vectors of a frame are broadcast over its
tokens as a view. Where the tokens of a frame differ, their vectors are gathered for a few thousand tokens at a time.
Nothing of the size ``[B, 6, tokens, D]`` ever exists.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

log = logging.getLogger(__name__)

LEVELS = 16
"""Distinct levels within the frames of a video, besides those of the frames' first tokens."""

ALL = slice(None)
PIECE = 4096  # tokens that vectors are gathered for at a time


@dataclass(frozen=True)
class Vectors:
    """A vector for each token of frames: that of its frame, or a row of a table.

    ``table``: ``[B, F, ..., D]``, one for each frame. With ``index [B, F, n]``, any number of rows ``[B, L, ..., D]``,
    and token ``n`` of frame ``f`` takes row ``index[b, f, n]`` of ``table.flatten(0, 1)``.
    """

    table: Tensor
    index: Tensor | None = None

    @property
    def frames(self) -> int:
        return (self.table if self.index is None else self.index).shape[1]

    def of_frames(self, part: slice) -> "Vectors":
        if self.index is None:
            return Vectors(self.table[:, part])
        return Vectors(self.table, self.index[:, part])

    def of_tokens(self, tokens: Tensor) -> "Vectors":
        """Those of some tokens, numbers ``[k]`` out of ``F * n``, each as a frame of its own."""
        if self.index is None:
            raise ValueError("the vectors of frames do not say how many tokens there are; give them an index")
        return Vectors(self.table, self.index.flatten(1).index_select(1, tokens).unsqueeze(2))

    def broadcast(self, part: slice = ALL) -> Tensor:
        """Of some frames, ``[B, f, 1, D]`` or, gathered, ``[B, f, n, D]``: for tokens ``[B, f, n, D]``."""
        if self.index is None:
            return self.table[:, part].unsqueeze(2)
        return F.embedding(self.index[:, part], self.table.flatten(0, 1))

    def pieces(self) -> Iterator[slice]:
        """Frames whose vectors are made at a time: all of them where they are views."""
        step = self.frames if self.index is None else max(1, PIECE // self.index.shape[2])
        return (slice(first, first + step) for first in range(0, self.frames, step))


def offset_vectors(learned: Tensor, time: Tensor | Vectors) -> list[Vectors]:
    """The sums of ``learned [1, k, D]`` and ``time [B, F, k or 1, D]``: ``k`` times vectors ``[B, F, D]``."""
    table, index = (time, None) if isinstance(time, Tensor) else (time.table, time.index)
    return [Vectors(each, index) for each in (learned.to(table).unsqueeze(1) + table).unbind(2)]


def distinct_levels(levels: Tensor, room: int = LEVELS) -> tuple[Tensor, Tensor, Tensor]:
    """Split levels, or timesteps, ``[B, F, h, w]`` into a table and an index, without waiting for the device.

    Returns the levels of the frames' first tokens ``[B, F]``, the other levels ``[B, room]``, and the rows of both
    side by side that the tokens take: the index ``[B, F, h * w]`` of :class:`Vectors`. If there are more others,
    neighbours are merged into one halfway between them; the lowest and the highest stay.
    """
    tokens = levels.flatten(2)  # [B, F, n]
    batch, frames, count = tokens.shape
    first = tokens[..., 0]
    ascending, order = tokens.where(tokens != first[..., None], -1).flatten(1).sort(dim=1)
    # 0: like the frame's first token, as is one in every frame at least; 1, 2, ...: the other levels
    rank = F.pad((ascending.diff(dim=1) != 0).cumsum(dim=1), (1, 0))
    others = rank[:, -1:]
    if levels.device.type == "cpu" and not torch.compiler.is_compiling():
        _report(int(others.max()), room)
    # ranks 1 ... others -> slots 1 ... room, the same if there are no more, and rounded if there are
    steps = (others - 1).clamp(min=1)
    slot = (2 * (rank - 1) * steps.clamp(max=room - 1) + steps).div(2 * steps, rounding_mode="floor") + 1
    slot = slot.where(rank > 0, 0)
    empty = ascending.new_zeros(batch, 1 + room)
    low, high = (empty.scatter_reduce(1, slot, ascending, end, include_self=False) for end in ("amin", "amax"))
    slot = torch.empty_like(slot).scatter(1, order, slot).unflatten(1, (frames, count))
    frame = torch.arange(frames, device=levels.device)[:, None]
    sample = torch.arange(batch, device=levels.device)[:, None, None]
    row = torch.where(slot == 0, frame, frames - 1 + slot)
    merged = torch.cat((low[:, 1:2], (low[:, 2:-1] + high[:, 2:-1]) / 2, high[:, -1:]), dim=1)
    return first, merged, row + sample * (frames + room)


def limit_levels(levels: Tensor) -> Tensor:
    """Noise levels ``[F, h, w]`` as the network tells them apart; ``[F]`` unchanged.

    Latents are noised to these, so that they are at the level that the network is told.
    """
    if levels.ndim == 1:
        return levels
    first, others, index = distinct_levels(levels[None])
    return torch.cat((first, others), dim=1).flatten()[index].view_as(levels)


@cache  # the same at every step
def _report(count: int, room: int) -> None:
    if count > room:
        log.warning("%d noise levels within frames; %d are told apart: neighbours are merged", count, room)
