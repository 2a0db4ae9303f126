"""Frozen linear layers in 8 bits: fp8 as a checkpoint has it, or fp8 and int8 with a scale for each row."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..weights.checkpoints import Checkpoint, expected_shapes
from ..weights.quantised import FP8, widened
from .adapters import TARGETS
from .sources import BaseDtype


class WidenedLinear(torch.autograd.Function):
    """A linear layer of ``widened(weight, scale)``, which is made anew for the backward pass; for matrices ``x``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scale)
        return F.linear(x, widened(weight, scale).to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        weight, scale = ctx.saved_tensors
        return gradients[0] @ widened(weight, scale).to(gradients[0].dtype), None, None, None


class EightBitLinear(nn.Module):
    """A frozen linear layer whose weight is fp8 or int8, and in the dtype of its input while it computes.

    ``scale``: ``[rows, 1]``, fp32. What it computes, and its gradient, are those of the widened weight. It takes the
    place of ``linear``, without its weight's values.
    """

    def __init__(self, linear: Any) -> None:
        super().__init__()
        self.out_features, self.in_features = linear.out_features, linear.in_features
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = nn.Parameter(torch.empty(linear.out_features, 1, device=linear.weight.device))
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        # a matrix: the result is no view then, and may be added to in place
        y = WidenedLinear.apply(x.flatten(0, -2), self.weight, self.scale, self.bias)
        return y.unflatten(0, x.shape[:-1])


def held_in_eight_bits(checkpoint: Checkpoint, base: BaseDtype) -> set[str]:
    """Names of the parameters whose layers are held in 8 bits, such as ``blocks.0.ffn.0.weight``."""
    if base == "full":
        return set()
    names = {
        name
        for name, _ in expected_shapes(checkpoint.config)
        if name.endswith(".weight") and TARGETS.fullmatch(name.removesuffix(".weight"))
    }
    if base != "auto":
        return names
    return {name for name in names & checkpoint.weights.keys() if checkpoint.weights[name].dtype in FP8}


def eight_bits(checkpoint: Checkpoint, name: str, base: BaseDtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Weight in 8 bits and scale ``[rows, 1]`` of a layer, by its weight's name; those of the file if it is in fp8.

    Raises ``ValueError`` for NaN or infinity.
    """
    weight, values = checkpoint.weights[name], checkpoint.dequantised_weight(name)
    if weight.dtype not in FP8:
        return quantise(values.to(device), base)
    layer = checkpoint.quantised.get(name.removesuffix(".weight"))
    scale = torch.ones(()) if layer is None or layer.scale is None else layer.scale.float()
    return weight.to(device, copy=True), scale.reshape(-1, 1).repeat(len(weight) // scale.numel(), 1).to(device)


def quantise(weight: Tensor, base: BaseDtype) -> tuple[Tensor, Tensor]:
    """A matrix in fp8 or int8, and its fp32 scale ``[rows, 1]``, by which the largest of a row is the format's."""
    dtype = torch.int8 if base == "int8" else torch.float8_e4m3fn
    largest = 127 if base == "int8" else torch.finfo(dtype).max
    values = weight.float()
    scale = (values.abs().amax(dim=1, keepdim=True) / largest).clamp(min=torch.finfo(torch.float32).tiny)
    scaled = values / scale
    return (scaled.round() if base == "int8" else scaled).to(dtype), scale
