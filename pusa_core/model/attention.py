"""Attention behind one signature, so that a host application can bring its own kernel."""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class Attention(Protocol):
    """Full softmax attention: ``q [B, N, heads, d]``, ``k, v [B, M, heads, d]`` -> ``[B, N, heads * d]``."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's scaled dot-product attention, with whichever backend PyTorch finds best."""
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2).flatten(2)
