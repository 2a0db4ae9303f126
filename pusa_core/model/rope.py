"""Rotary position embedding over (frame, row, column)."""

from functools import lru_cache

import torch
from torch import Tensor

from .axes import rearrange
from .elementwise import may_overwrite

THETA = 10000.0
POSITIONS = 1024  # on each axis, as in the released models
Axes = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
PLAIN: Axes = ((1.0, 0.0), (1.0, 0.0), (1.0, 0.0))
HAS_COMPLEX = ("cpu", "cuda")  # devices on which every PyTorch multiplies complex numbers


def rope_table(head_dim: int, grid: tuple[int, int, int], device: torch.device, axes: Axes = PLAIN) -> Tensor:
    """Cosines and sines ``[N, 1, head_dim // 2, 2]`` (fp32) for the tokens of a grid (frames, rows, columns).

    The rotated pairs of a head are split over the axes as in the released Wan models: a third of ``head_dim`` for rows,
    a third for columns, the rest for frames (42, 42 and 44 of 128). Tables are cached by their arguments.

    Args:
        axes: scale and shift of the positions on each axis.

    Raises:
        ValueError: an axis is longer than the table.
    """
    if max(grid) >= POSITIONS:
        raise ValueError(f"a video of {grid} tokens is too large: at most {POSITIONS - 1} frames, rows and columns")
    # a compiler cannot trace the cache; it traces the expansion of a constant table instead
    return (_expand if torch.compiler.is_compiling() else _cached)(head_dim, grid, device, axes)


def _expand(head_dim: int, grid: tuple[int, int, int], device: torch.device, axes: Axes) -> Tensor:
    per_axis = constant_positions(head_dim, device, axes).split(_pairs(head_dim), dim=1)
    parts = []
    for axis, length in enumerate(grid):
        shape = [1, 1, 1, -1, 2]
        shape[axis] = length
        parts.append(per_axis[axis][:length].view(shape).expand(*grid, -1, -1))
    return rearrange(torch.cat(parts, dim=-2), "f h w pairs cos_sin -> (f h w) 1 pairs cos_sin")


# outside of inference mode: a table cached while sampling must still be usable in training
_cached = lru_cache(maxsize=16)(torch.inference_mode(False)(_expand))


def constant_positions(head_dim: int, device: torch.device, axes: Axes) -> Tensor:
    return positions_table(head_dim, device, axes)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def positions_table(head_dim: int, device: torch.device, axes: Axes) -> Tensor:
    """Cosines and sines ``[POSITIONS, head_dim // 2, 2]`` (fp32), the axes side by side, computed in float64."""
    angles = []
    for pairs, (scale, shift) in zip(_pairs(head_dim), axes, strict=True):
        frequencies = THETA ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
        positions = torch.arange(POSITIONS, dtype=torch.float64) * scale + shift
        angles.append(torch.outer(positions, frequencies))
    angle = torch.cat(angles, dim=1)
    return torch.stack((angle.cos(), angle.sin()), dim=-1).float().to(device)


def _pairs(head_dim: int) -> list[int]:
    """How many pairs of a head are rotated by the frame, the row and the column."""
    spatial = head_dim // 6
    return [head_dim // 2 - 2 * spatial, spatial, spatial]


def apply_rope(x: Tensor, table: Tensor) -> Tensor:
    """Rotate adjacent pairs of ``x [B, N, heads, head_dim]`` by the angles of ``table``, in fp32.

    Without autograd ``x`` is overwritten.
    """
    pairs = x.float().unflatten(-1, (-1, 2))  # a view if x is fp32: written to below
    if may_overwrite() and x.device.type in HAS_COMPLEX:
        # (a + ib)(cos + i sin): the same arithmetic in one pass over memory
        torch.view_as_complex(pairs).mul_(torch.view_as_complex(table))
        return x if x.dtype == torch.float32 else x.copy_(pairs.flatten(-2))
    (first, second), (cos, sin) = pairs.unbind(-1), table.unbind(-1)
    # each half is narrowed by itself: a compiler writes what is stacked to memory as it is
    rotated = (first * cos - second * sin).to(x.dtype), (first * sin + second * cos).to(x.dtype)
    return torch.stack(rotated, dim=-1).flatten(-2)
