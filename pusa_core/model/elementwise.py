"""The element-wise arithmetic of the DiT. It is bound by memory: without autograd, results take their operands' place.

One modulation vector per latent frame is broadcast over the frame's tokens as a view; it is never repeated for them.
"""

import torch
from torch import Tensor, nn


def may_overwrite() -> bool:
    """Whether intermediate results may be written over: autograd does not need them, and no compiler sees to it."""
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _out(target: Tensor, other: Tensor) -> Tensor | None:
    return target if may_overwrite() and target.dtype == other.dtype else None


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``x (1 + scale) + shift`` for ``x [B, F * n, D]`` with one ``shift, scale [B, F, D]`` per frame.

    Without autograd ``x`` is overwritten.
    """
    frames = x.unflatten(1, (shift.shape[1], -1))  # [B, F, n, D]
    return torch.addcmul(shift.unsqueeze(2), frames, 1 + scale.unsqueeze(2), out=_out(frames, shift)).flatten(1, 2)


def gated_residual(x: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    """``x + update * gate`` for ``x, update [B, F * n, D]`` with one ``gate [B, F, D]`` per frame.

    Without autograd ``update`` is overwritten.
    """
    frames = (gate.shape[1], -1)
    x, update = x.unflatten(1, frames), update.unflatten(1, frames)
    return torch.addcmul(x, update, gate.unsqueeze(2), out=_out(update, x)).flatten(1, 2)


def residual(x: Tensor, update: Tensor) -> Tensor:
    """``x + update``. Without autograd ``update`` is overwritten."""
    return torch.add(x, update, out=_out(update, x))


class FeedForward(nn.Sequential):
    """Linear, GELU, linear. Without autograd the GELU takes the place of its argument, the largest tensor of all."""

    def forward(self, x: Tensor) -> Tensor:
        up, activation, down = self
        hidden = up(x)
        if may_overwrite():
            return down(torch.ops.aten.gelu_(hidden, approximate="tanh"))
        return down(activation(hidden))
