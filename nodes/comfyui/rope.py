"""Rotary tables as ComfyUI hands them to a layer: one rotation matrix ``[1, N, 1, head_dim // 2, 2, 2]`` a pair.

The first column of a rotation matrix, cosine and sine, is all that it says, and the form of ``pusa_core``. Matrices
made here keep it apart in memory, so that our attention takes it as a view.
"""

import torch
from torch import Tensor


def rotations(table: Tensor) -> Tensor:
    """Matrices of cosines and sines ``table [N, 1, head_dim // 2, 2]``."""
    cos, sin = table.unbind(-1)
    columns = torch.stack((table, torch.stack((-sin, cos), dim=-1)))
    return columns.movedim(0, -1).unsqueeze(0)


def cosines_and_sines(freqs: Tensor) -> Tensor:
    """``[N, 1, head_dim // 2, 2]`` of matrices: a view of those from :func:`rotations`, else a copy."""
    return freqs[0, ..., 0].float().contiguous()
