"""The attention kernel: one signature, so that a host application can bring its own, and hooks around it."""

from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .axes import rearrange


class Attention(Protocol):
    """Full softmax attention: ``q [B, N, heads, d]``, ``k, v [B, M, heads, d]`` -> ``[B, N, heads * d]``."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...


Block = Callable[..., Tensor]
"""Anything called like :meth:`pusa_core.model.dit.WanBlock.forward`."""

AttentionHook = Callable[[Attention, Tensor, Tensor, Tensor], Tensor]
"""``hook(attend, q, k, v)``: what runs in place of ``attend(q, k, v)``."""


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's scaled dot-product attention, with whichever backend PyTorch finds best."""
    q, k, v = (rearrange(x, "b n heads d -> b heads n d") for x in (q, k, v))
    return rearrange(F.scaled_dot_product_attention(q, k, v), "b heads n d -> b n (heads d)")


Backend = Literal["auto", "flash", "efficient", "cudnn", "math"]
"""Of PyTorch's scaled dot-product attention; auto: the one that PyTorch finds best."""
_BACKENDS = {
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",  # from PyTorch 2.5 on
    "math": "MATH",
}


def attention_by(backend: Backend) -> Attention:
    """:func:`attention` by one backend; it raises ``RuntimeError`` where that cannot compute it."""
    if backend == "auto":
        return attention

    chosen = getattr(SDPBackend, _BACKENDS[backend])

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(chosen):
            return attention(q, k, v)

    return attend


def hook_self_attention(block: Block, hook: AttentionHook) -> Block:
    """``block`` with ``hook`` around its self-attention; the cross-attention is untouched.

    Hooks nest: that of the innermost wrapper sees the queries, keys and values first.
    """

    def hooked(
        x: Tensor, time: Tensor, context: Tensor, rope: Tensor, attend: Attention, self_attend: Attention | None = None
    ) -> Tensor:
        return block(x, time, context, rope, attend, partial(hook, self_attend or attend))

    return hooked
