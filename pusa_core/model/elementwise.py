"""Elementwise operations of the DiT. They are memory-bound, so without autograd they work in place.

The modulation vector of a latent frame is broadcast over the frame's tokens as a view, never materialised per token.
"""

import torch
from torch import Tensor, nn

from .axes import rearrange


def may_overwrite() -> bool:
    """Whether intermediate results may be overwritten: autograd does not need them, and no compiler plans memory."""
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _out(target: Tensor, other: Tensor) -> Tensor | None:
    return target if may_overwrite() and target.dtype == other.dtype else None


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``x (1 + scale) + shift`` for ``x [B, F * n, D]`` with one ``shift, scale [B, F, D]`` per frame.

    Without autograd ``x`` is overwritten.
    """
    by_frame = rearrange(x, "b (f n) d -> b f n d", f=shift.shape[1])
    shift, scale = (rearrange(vector, "b f d -> b f 1 d") for vector in (shift, scale))
    modulated = torch.addcmul(shift, by_frame, 1 + scale, out=_out(by_frame, shift))
    return rearrange(modulated, "b f n d -> b (f n) d")


def gated_residual(x: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    """``x + update * gate`` for ``x, update [B, F * n, D]`` with one ``gate [B, F, D]`` per frame.

    Without autograd ``update`` is overwritten.
    """
    x, update = (rearrange(tokens, "b (f n) d -> b f n d", f=gate.shape[1]) for tokens in (x, update))
    gated = torch.addcmul(x, update, rearrange(gate, "b f d -> b f 1 d"), out=_out(update, x))
    return rearrange(gated, "b f n d -> b (f n) d")


def residual(x: Tensor, update: Tensor) -> Tensor:
    """``x + update``. Without autograd ``update`` is overwritten."""
    return torch.add(x, update, out=_out(update, x))


class FeedForward(nn.Sequential):
    """Linear, GELU, linear. Without autograd the GELU is in place: its input is the largest tensor of all."""

    def forward(self, x: Tensor) -> Tensor:
        up, activation, down = self
        hidden = up(x)
        if may_overwrite():
            return down(torch.ops.aten.gelu_(hidden, approximate="tanh"))
        return down(activation(hidden))
