"""Rotary position embedding over (frame, row, column)."""

from functools import lru_cache

import torch
from torch import Tensor

THETA = 10000.0
Axes = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
PLAIN: Axes = ((1.0, 0.0), (1.0, 0.0), (1.0, 0.0))


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # a table cached by an inference run must still be usable in training
def rope_table(
    head_dim: int, grid: tuple[int, int, int], device: torch.device, axes: Axes = PLAIN
) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``[N, 1, head_dim // 2]`` (fp32) for the tokens of a grid (frames, rows, columns).

    The pairs of a head are split over the axes as in the released Wan models: two sixths of ``head_dim`` for rows, as
    much for columns, the rest for frames (44 / 42 / 42 of 128). Angles are computed in float64, once per shape.
    ``axes``: a scale and a shift of the positions on each axis.
    """
    columns = 2 * (head_dim // 6)
    angles = []
    for axis, (length, width) in enumerate(zip(grid, (head_dim - 2 * columns, columns, columns), strict=True)):
        frequencies = THETA ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        shape = [1, 1, 1, -1]
        shape[axis] = length
        scale, shift = axes[axis]
        angle = torch.outer(torch.arange(length, dtype=torch.float64) * scale + shift, frequencies)
        angles.append(angle.view(shape).expand(*grid, -1))
    table = torch.cat(angles, dim=-1).reshape(-1, 1, head_dim // 2)
    return table.cos().float().to(device), table.sin().float().to(device)


def apply_rope(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate adjacent pairs of ``x [B, N, heads, head_dim]`` by the angles of ``table``, in fp32."""
    cos, sin = table
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    rotated = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
    return rotated.flatten(-2).to(x.dtype)
