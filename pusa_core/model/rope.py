"""Rotary position embedding over (frame, row, column)."""

from functools import lru_cache

import torch
from torch import Tensor

from .elementwise import may_overwrite

THETA = 10000.0
POSITIONS = 1024  # on each axis, as in the released models
Axes = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
PLAIN: Axes = ((1.0, 0.0), (1.0, 0.0), (1.0, 0.0))
HAS_COMPLEX = ("cpu", "cuda")  # devices on which every PyTorch multiplies complex numbers


def rope_table(
    head_dim: int,
    grid: tuple[int, int, int],
    device: torch.device,
    axes: Axes = PLAIN,
    frames: tuple[int, ...] | None = None,
) -> Tensor:
    """Cosines and sines ``[N, 1, head_dim // 2, 2]`` (fp32) for the tokens of a grid (frames, rows, columns).

    The pairs of a head are split over the axes as in the released Wan models: two sixths of ``head_dim`` for rows, as
    much for columns, the rest for frames (44 / 42 / 42 of 128). Tables are kept by shape.

    Args:
        axes: a scale and a shift of the positions on each axis.
        frames: where the grid's frames are in the video; by default at 0, 1, 2, ...

    Raises:
        ValueError: an axis is longer than the table.
    """
    if max(*grid, *(frames or (0,))) >= POSITIONS:
        raise ValueError(f"a video of {grid} tokens is too large: at most {POSITIONS - 1} frames, rows and columns")
    # a compiler does not see through the cache; it gets the steps that lead from a constant to the table
    return (_expand if torch.compiler.is_compiling() else _kept)(head_dim, grid, device, axes, frames)


def _expand(
    head_dim: int, grid: tuple[int, int, int], device: torch.device, axes: Axes, frames: tuple[int, ...] | None
) -> Tensor:
    per_axis = list(_positions(head_dim, device, axes).split(_pairs(head_dim), dim=1))
    if frames is not None:
        per_axis[0] = per_axis[0][torch.tensor(frames, device=device)]
    parts = []
    for axis, length in enumerate(grid):
        shape = [1, 1, 1, -1, 2]
        shape[axis] = length
        parts.append(per_axis[axis][:length].view(shape).expand(*grid, -1, -1))
    return torch.cat(parts, dim=-2).reshape(-1, 1, head_dim // 2, 2)


# a table kept by an inference run must still be usable in training
_kept = lru_cache(maxsize=16)(torch.inference_mode(False)(_expand))


@torch.compiler.assume_constant_result
def _positions(head_dim: int, device: torch.device, axes: Axes) -> Tensor:
    return positions_table(head_dim, device, axes)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def positions_table(head_dim: int, device: torch.device, axes: Axes) -> Tensor:
    """Cosines and sines ``[POSITIONS, head_dim // 2, 2]`` (fp32), the axes side by side; angles are made in float64."""
    angles = []
    for pairs, (scale, shift) in zip(_pairs(head_dim), axes, strict=True):
        frequencies = THETA ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
        positions = torch.arange(POSITIONS, dtype=torch.float64) * scale + shift
        angles.append(torch.outer(positions, frequencies))
    angle = torch.cat(angles, dim=1)
    return torch.stack((angle.cos(), angle.sin()), dim=-1).float().to(device)


def _pairs(head_dim: int) -> list[int]:
    """How many pairs of a head turn with the frame, the row and the column."""
    spatial = head_dim // 6
    return [head_dim // 2 - 2 * spatial, spatial, spatial]


def apply_rope(x: Tensor, table: Tensor) -> Tensor:
    """Rotate adjacent pairs of ``x [B, N, heads, head_dim]`` by the angles of ``table``, in fp32.

    Without autograd ``x`` is overwritten.
    """
    pairs = x.float().unflatten(-1, (-1, 2))  # fp32 is not copied
    if may_overwrite() and x.device.type in HAS_COMPLEX:
        # (a + ib)(cos + i sin): the same arithmetic in one pass over memory
        torch.view_as_complex(pairs).mul_(torch.view_as_complex(table))
        return x if x.dtype == torch.float32 else x.copy_(pairs.flatten(-2))
    (first, second), (cos, sin) = pairs.unbind(-1), table.unbind(-1)
    rotated = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
    return rotated.flatten(-2).to(x.dtype)
