"""Elementwise operations of the DiT. They are memory-bound, so without autograd they work in place."""

import torch
from torch import Tensor, nn

from .modulation import ALL, Vectors


def may_overwrite() -> bool:
    """Whether intermediate results may be overwritten: autograd does not need them, and no compiler plans memory."""
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _out(target: Tensor, dtype: torch.dtype) -> Tensor | None:
    return target if may_overwrite() and target.dtype == dtype else None


def modulate(x: Tensor, shift: Vectors, scale: Vectors) -> Tensor:
    """``x (1 + scale) + shift`` for ``x [B, F * n, D]``.

    Without autograd ``x`` is overwritten.
    """
    by_frame = x.unflatten(1, (shift.frames, -1))
    factor = Vectors(1 + scale.table, scale.index)
    return _addcmul(shift, by_frame, factor, out=_out(by_frame, shift.table.dtype))


def gated_residual(x: Tensor, update: Tensor, gate: Vectors) -> Tensor:
    """``x + update * gate`` for ``x, update [B, F * n, D]``.

    Without autograd ``update`` is overwritten.
    """
    x, update = (tokens.unflatten(1, (gate.frames, -1)) for tokens in (x, update))
    return _addcmul(x, update, gate, out=_out(update, x.dtype))


def _addcmul(base: Tensor | Vectors, one: Tensor, other: Vectors, out: Tensor | None) -> Tensor:
    """``base + one * other`` for tokens ``[B, F, n, D]``, as ``[B, F * n, D]``; into ``out``, piece by piece."""

    def operands(part: slice) -> list[Tensor]:
        return [each[:, part] if isinstance(each, Tensor) else each.broadcast(part) for each in (base, one, other)]

    if out is None:
        return torch.addcmul(*operands(ALL)).flatten(1, 2)
    for part in other.pieces():
        torch.addcmul(*operands(part), out=out[:, part])
    return out.flatten(1, 2)


def residual(x: Tensor, update: Tensor) -> Tensor:
    """``x + update``. Without autograd ``update`` is overwritten."""
    return torch.add(x, update, out=_out(update, x.dtype))


class FeedForward(nn.Sequential):
    """Linear, GELU, linear. Without autograd the GELU is in place: its input is the largest tensor of all."""

    def forward(self, x: Tensor) -> Tensor:
        up, activation, down = self
        hidden = up(x)
        if may_overwrite():
            return down(torch.ops.aten.gelu_(hidden, approximate="tanh"))
        return down(activation(hidden))
