"""Frame-to-frame self-attention maps (Pusa, arXiv 2507.16116, fig. 4).

The paper gives no formula. Here, with all ``n`` tokens of a frame and all heads,
``M[f, g] = mean over heads and queries i of f of sum over keys j of g of softmax_j(q_i . k_j / sqrt(d))``.
Every row sums to 1.
"""

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from einops import reduce
from torch import Tensor, nn

from ..model.attention import Attention, Block, hook_self_attention
from ..model.dit import WanModel
from ..storage.atomic import write_whole

FrameAttention = Callable[[Tensor, Tensor, int], Tensor]
"""``(q [B, N, heads, d], k [B, N, heads, d], frames) -> [B, F, F]``; rows are the query frames."""

CHUNK = 1 << 25  # attention weights in memory at a time: 128 MiB in fp32


@torch.no_grad()
def frame_attention(q: Tensor, k: Tensor, frames: int, chunk: int = CHUNK) -> Tensor:
    """The exact map ``[B, F, F]``, fp32: softmax over all keys, then summed over a frame's keys, then averaged.

    Args:
        q, k: queries and keys ``[B, N, heads, d]`` as they enter the softmax; the ``N`` tokens are ordered by frame.
        frames: number of latent frames ``F``.
        chunk: number of attention weights in memory at a time (fp32); the N x N matrix is never materialised.

    Raises:
        ValueError: ``N`` is not a multiple of ``frames``.
    """
    batch, tokens, heads, width = q.shape
    _check_tokens(tokens, frames)
    rows = max(1, chunk // (batch * tokens))
    shares = q.new_zeros(batch, tokens, frames, dtype=torch.float32)
    for head in range(heads):
        keys = k[:, :, head].float().transpose(1, 2)
        queries = q[:, :, head].float() * width**-0.5
        for part, share in zip(queries.split(rows, 1), shares.split(rows, 1), strict=True):
            share += reduce(torch.softmax(part @ keys, dim=-1), "b i (g j) -> b i g", "sum", g=frames)
    return reduce(shares, "b (f i) g -> b f g", "mean", f=frames) / heads


@torch.no_grad()
def pooled_frame_attention(q: Tensor, k: Tensor, frames: int) -> Tensor:
    """An approximation that averages queries and keys over each frame before the softmax. For comparison only.

    Arguments and result as in :func:`frame_attention`. A mean query does not attend like the queries it averages.
    """
    _check_tokens(q.shape[1], frames)
    queries, keys = (reduce(x.float(), "b (f i) heads d -> b f heads d", "mean", f=frames) for x in (q, k))
    scores = torch.einsum("bfhd,bghd->bhfg", queries, keys) * q.shape[-1] ** -0.5
    return scores.softmax(-1).mean(1)


def _check_tokens(tokens: int, frames: int) -> None:
    if frames < 1 or tokens % frames:
        raise ValueError(f"{tokens} tokens cannot be divided among {frames} latent frames")


@dataclass(frozen=True)
class AttentionMaps:
    """Maps ``[steps, blocks, F, F]``, fp32, of the named steps (from 0) and blocks; rows are the query frames."""

    maps: Tensor
    steps: tuple[int, ...]
    blocks: tuple[int, ...]

    @property
    def to_first(self) -> Tensor:
        """``[steps, blocks]``: mean attention of frames 1 and later to frame 0."""
        return self.maps[:, :, 1:, 0].mean(-1)

    @property
    def to_self(self) -> Tensor:
        """``[steps, blocks]``: mean attention of a frame to itself."""
        return self.maps.diagonal(dim1=-2, dim2=-1).mean(-1)

    def describe(self) -> str:
        """Both means, one line per step and block."""
        return "\n".join(
            f"step {step}, block {block}: {first:.1%} to frame 0 from the others, {own:.1%} to the frame itself"
            for step, firsts, owns in zip(self.steps, self.to_first.tolist(), self.to_self.tolist(), strict=True)
            for block, first, own in zip(self.blocks, firsts, owns, strict=True)
        )

    def save(self, npz: str | PathLike, table: str | PathLike) -> None:
        """Write ``maps``, ``steps`` and ``blocks`` as ``.npz``, and one CSV row per pair of frames.

        Raises :class:`pusa_core.storage.atomic.SaveError`.
        """
        arrays = {"maps": self.maps.numpy(), "steps": np.array(self.steps), "blocks": np.array(self.blocks)}
        write_whole(npz, lambda path: np.savez_compressed(path, **arrays))  # type: ignore[arg-type]
        write_whole(table, self._write_table)

    def _write_table(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "block", "frame", "attends_to", "share"])
            for step, row in zip(self.steps, self.maps, strict=True):
                for block, grid in zip(self.blocks, row, strict=True):
                    for frame, shares in enumerate(grid.tolist()):
                        writer.writerows((step, block, frame, to, f"{share:.8g}") for to, share in enumerate(shares))


class AttentionRecorder:
    """Accumulates maps while a model samples.

    ``step``, the current sampling step, is set by the caller. Several calls per step and block (a batch, a second
    conditioning) are averaged.

    Raises ``ValueError`` for a step or block that does not exist; negative ones count from the end.
    """

    def __init__(
        self,
        steps: Iterable[int],
        blocks: Iterable[int],
        *,
        total_steps: int,
        total_blocks: int,
        measure: FrameAttention = frame_attention,
    ) -> None:
        _leave_uncompiled()
        self.steps = _numbers(steps, total_steps, "step")
        self.blocks = _numbers(blocks, total_blocks, "block")
        self.measure = measure
        self.step = 0
        self._sums: dict[tuple[int, int], Tensor] = {}
        self._counts: dict[tuple[int, int], int] = {}

    @property
    def listening(self) -> bool:
        """Whether the current step is to be recorded."""
        return self.step in self.steps

    def record(self, block: int, q: Tensor, k: Tensor, frames: int) -> None:
        """Add the self-attention of ``block`` at the current step; arguments as in :func:`frame_attention`."""
        maps = self.measure(q, k, frames).double().cpu()
        key = (self.step, block)
        self._sums[key] = maps.sum(0) + self._sums.get(key, 0)
        self._counts[key] = self._counts.get(key, 0) + len(maps)

    def after_step(self, step: int, denoised: Tensor, latents: Tensor) -> None:
        """Sampling callback (:func:`pusa_core.euler_sample`) that advances the current step."""
        self.step = step + 1

    def result(self) -> AttentionMaps:
        """The recorded maps. Raises ``ValueError`` when a step or block never ran."""
        missing = [(s, b) for s in self.steps for b in self.blocks if (s, b) not in self._sums]
        if missing:
            step, block = missing[0]
            raise ValueError(f"step {step}, block {block} was never computed, so there is no map of it")
        rows = [[self._sums[s, b] / self._counts[s, b] for b in self.blocks] for s in self.steps]
        return AttentionMaps(torch.stack([torch.stack(row) for row in rows]).float(), self.steps, self.blocks)


@cache
def _leave_uncompiled() -> None:
    """As a decorator it would import the compiler with this file (:mod:`pusa_core.model.compile`)."""
    AttentionRecorder.record = torch.compiler.disable(AttentionRecorder.record)  # type: ignore[method-assign]


def parse_numbers(text: str) -> list[int]:
    """Parse steps or blocks such as ``"0, 3, -1"``. Raises ``ValueError`` for any other text."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f'"{text}" is not a list of numbers; write for example "0,3,-1"') from None


def _numbers(chosen: Iterable[int], total: int, what: str) -> tuple[int, ...]:
    numbers = set()
    for number in chosen:
        if not -total <= number < total:
            raise ValueError(
                f"{what} {number} does not exist; there are {total} (0 to {total - 1}, or -1 for the last)"
            )
        numbers.add(number % total)
    if not numbers:
        raise ValueError(f"no {what} chosen; name at least one, such as 0")
    return tuple(sorted(numbers))


class RecordedModel(nn.Module):
    """A model whose self-attention is recorded, in calls with the text embedding ``context`` alone.

    Guidance calls the model with the negative prompt too, which is not recorded. Called like the model.
    """

    def __init__(self, model: WanModel, recorder: AttentionRecorder, context: Tensor) -> None:
        super().__init__()
        self.model = model
        self.recorder = recorder
        self.context = context

    def forward(self, latents: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        if not self.recorder.listening or not torch.equal(context, self.context.to(context).expand_as(context)):
            return self.model(latents, timestep, context)
        blocks: list[Block] = list(self.model.blocks)
        for index in self.recorder.blocks:
            blocks[index] = hook_self_attention(blocks[index], partial(self._record, index, timestep.shape[1]))
        return self.model(latents, timestep, context, blocks=blocks)

    def _record(self, block: int, frames: int, attend: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.recorder.record(block, q, k, frames)
        return attend(q, k, v)
