"""Trainable LoRA layers in a Wan DiT."""

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..lora import Lora, LoraLayer

# all linears of self- and cross-attention and of the feed-forward network, as in the released Pusa LoRA
TARGETS = re.compile(r"blocks\.\d+\.(?:(?:self|cross)_attn\.[qkvo]|ffn\.[02])")


class LoraLinear(nn.Module):
    """A frozen linear layer plus a trainable ``alpha / rank * up @ down``; it starts as the layer it wraps."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        limit = min(base.in_features, base.out_features)
        if not 1 <= rank <= limit:
            raise ValueError(
                f"LoRA rank {rank} does not fit a layer of {base.out_features} x {base.in_features}; use 1 to {limit}"
            )
        self.base = base.requires_grad_(False)
        self.alpha = alpha
        device = base.weight.device
        self.down = nn.Parameter(torch.empty(rank, base.in_features, device=device))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=device))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.alpha / self.down.shape[0]
        update = F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))
        return torch.add(self.base(x), update, alpha=scale)


def attach_lora(model: nn.Module, rank: int, alpha: float | None = None) -> dict[str, LoraLinear]:
    """Freeze ``model`` and wrap every target linear, in place; ``alpha`` defaults to ``rank`` (scale 1).

    Returns the adapters by layer name. Raises ``ValueError`` when the rank exceeds a layer or nothing can be wrapped.
    """
    model.requires_grad_(False)
    targets = {name: layer for name, layer in model.named_modules() if TARGETS.fullmatch(name)}
    if not targets:
        raise ValueError("the model has no Wan attention or feed-forward layer to adapt")
    adapters = {name: LoraLinear(layer, rank, rank if alpha is None else alpha) for name, layer in targets.items()}
    for name, adapter in adapters.items():
        _replace(model, name, adapter)
    return adapters


def detach_lora(model: nn.Module, adapters: dict[str, LoraLinear]) -> Lora:
    """Put the wrapped layers back and return what the adapters learned. A scale of 1 is written without alpha."""
    layers = {}
    for name, adapter in adapters.items():
        _replace(model, name, adapter.base)
        alpha = None if adapter.alpha == adapter.down.shape[0] else float(adapter.alpha)
        layers[name] = LoraLayer(adapter.down.detach(), adapter.up.detach(), alpha)
    return Lora(layers)


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
