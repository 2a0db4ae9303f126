"""Trainable LoRA layers in a Wan DiT."""

import math
import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..weights.lora import Lora, LoraLayer, match_lora

# all linears of self- and cross-attention and of the feed-forward network, as in the released Pusa LoRA
TARGETS = re.compile(r"blocks\.\d+\.(?:(?:self|cross)_attn\.[qkvo]|ffn\.[02])")


def check_rank(rank: int, rows: int, columns: int) -> None:
    """Raise ``ValueError`` when the rank exceeds the layer's."""
    limit = min(rows, columns)
    if not 1 <= rank <= limit:
        raise ValueError(f"LoRA rank {rank} does not fit a layer of {rows} x {columns}; use 1 to {limit}")


class LoraLinear(nn.Module):
    """A frozen linear layer plus a trainable update ``alpha / rank * up @ down``, zero at first.

    The factors are fp32, whatever the layer's dtype. ``dropout`` is applied to the update's input; ``strength`` scales
    the update and is 1 in training.
    """

    def __init__(
        self,
        base: nn.Linear,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        check_rank(rank, base.out_features, base.in_features)
        self.base = base.requires_grad_(False)
        self.alpha = alpha
        self.dropout = dropout
        self.strength = 1.0
        device = device or base.weight.device  # the layer itself may be offloaded
        self.down = nn.Parameter(torch.empty(rank, base.in_features, device=device))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=device))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.strength * self.alpha / self.down.shape[0]
        inputs = F.dropout(x, self.dropout, self.training) if self.dropout else x
        update = F.linear(F.linear(inputs, self.down.to(x.dtype)), self.up.to(x.dtype))
        return self.base(x).add_(update, alpha=scale)  # in place: autograd does not need the base output


def attach_lora(
    model: nn.Module,
    rank: int,
    alpha: float | None = None,
    dropout: float = 0.0,
    device: torch.device | None = None,
) -> dict[str, LoraLinear]:
    """Freeze ``model`` and wrap every target layer, in place; ``alpha`` defaults to ``rank`` (scale 1).

    ``device``: of the adapters, by default that of their layers.

    Returns the adapters by layer name. Raises ``ValueError`` when the rank exceeds a layer's, or no layer matches.
    """
    model.requires_grad_(False)
    targets = {name: layer for name, layer in model.named_modules() if TARGETS.fullmatch(name)}
    if not targets:
        raise ValueError("the model has no Wan attention or feed-forward layer to adapt")
    adapters = {
        name: LoraLinear(layer, rank, rank if alpha is None else alpha, dropout, device)
        for name, layer in targets.items()
    }
    for name, adapter in adapters.items():
        replace_layer(model, name, adapter)
    return adapters


def detach_lora(model: nn.Module, adapters: dict[str, LoraLinear]) -> Lora:
    """Unwrap the layers and return the adapters as a LoRA, without alpha if its scale is 1."""
    factors: dict[str, Tensor] = {}
    for name, adapter in adapters.items():
        replace_layer(model, name, adapter.base)
        factors |= {f"{name}.down": adapter.down.detach(), f"{name}.up": adapter.up.detach()}
    return lora_from_factors(factors, next(iter(adapters.values())).alpha)


def lora_from_factors(factors: Mapping[str, Tensor], alpha: float) -> Lora:
    """The LoRA with parameters ``<layer>.down`` and ``<layer>.up``, without alpha if its scale is 1."""
    layers = {}
    for name, down in factors.items():
        layer, _, kind = name.rpartition(".")
        if kind == "down":
            layers[layer] = LoraLayer(down, factors[f"{layer}.up"], None if alpha == len(down) else float(alpha))
    return Lora(layers)


def check_start(lora: Lora, shapes: Mapping[str, tuple[int, ...]], rank: int) -> None:
    """Raise ``ValueError`` unless adapters of that rank can be initialised from ``lora``."""
    match = match_lora(lora, shapes)
    wrong = [name for name in match.layers if not TARGETS.fullmatch(name)]
    if wrong or match.diffs:
        raise ValueError(
            f"the LoRA to start from changes {(wrong or list(match.diffs))[0]}, which this training does not; merge it "
            f"into the checkpoint first"
        )
    largest = max(layer.rank for layer in match.layers.values())
    if largest > rank:
        raise ValueError(f"the LoRA to start from has rank {largest}, train.rank is {rank}; set it to {largest}")


@torch.no_grad()
def start_from(adapters: Mapping[str, LoraLinear], lora: Lora) -> None:
    """Initialise adapters from ``lora``; surplus ranks start at zero."""
    for name, layer in lora.layers.items():
        if (adapter := adapters.get(name)) is not None:
            scale = adapter.alpha / adapter.down.shape[0]
            adapter.down[: layer.rank] = layer.down
            adapter.up[:, : layer.rank] = layer.up.float() * (layer.scale / scale)


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put ``layer`` in the place of the one with that name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
