"""Wan LoRA files -> one form; merge and save."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from .checkpoints import read_tensors

log = logging.getLogger(__name__)

PREFIX = "diffusion_model."  # the spelling that ComfyUI and every common tool reads
_DOWN = (".lora_A.default.weight", ".lora_A.weight", ".lora_down.weight")
_UP = (".lora_B.default.weight", ".lora_B.weight", ".lora_up.weight")
_ALPHA = ".alpha"


@dataclass(frozen=True)
class LoraLayer:
    """One linear layer's update ``scale * up @ down``; ``down [rank, in]``, ``up [out, rank]``."""

    down: Tensor
    up: Tensor
    alpha: float | None = None

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """``alpha / rank`` where the file has an alpha, otherwise 1."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


@dataclass(frozen=True)
class Lora:
    """Updates by layer name (original Wan names, such as ``blocks.0.self_attn.q``) and tensors not understood."""

    layers: dict[str, LoraLayer]
    unknown: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors under the names that ComfyUI's own loaders read."""
        tensors = {}
        for name, layer in self.layers.items():
            tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.down
            tensors[f"{PREFIX}{name}.lora_B.weight"] = layer.up
            if layer.alpha is not None:
                tensors[f"{PREFIX}{name}.alpha"] = torch.tensor(layer.alpha)
        return tensors


def parse_lora(tensors: Mapping[str, Tensor], source: str) -> Lora:
    """Read LoRA tensors in any supported spelling; ``source`` names them in errors."""
    parts: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for name, tensor in tensors.items():
        kind, suffix = _classify(name)
        if suffix is None:
            unknown.append(name)
        else:
            parts.setdefault(name.removesuffix(suffix).removeprefix(PREFIX), {})[kind] = tensor
    layers = {}
    for name, part in parts.items():
        if "down" not in part or "up" not in part:
            unknown.append(name)
            continue
        down, up = part["down"], part["up"]
        if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
            raise ValueError(
                f"{source}: layer {name} has factors of shapes {tuple(up.shape)} and {tuple(down.shape)}, "
                f"which cannot be multiplied; the file is damaged"
            )
        layers[name] = LoraLayer(down, up, float(part["alpha"]) if "alpha" in part else None)
    if not layers:
        raise ValueError(
            f"{source} holds no LoRA of a known form (first names: {sorted(tensors)[:5]}); pick a Wan LoRA file"
        )
    return Lora(layers, tuple(unknown))


def _classify(name: str) -> tuple[str, str | None]:
    for kind, suffixes in (("down", _DOWN), ("up", _UP), ("alpha", (_ALPHA,))):
        for suffix in suffixes:
            if name.endswith(suffix):
                return kind, suffix
    return "", None


def load_lora(path: str | PathLike) -> Lora:
    """Load a Wan LoRA file.

    Reads bare names as Pusa was published (``blocks.0.self_attn.q.lora_A.default.weight``) and names behind
    ``diffusion_model.`` with ``lora_A`` / ``lora_B`` or ``lora_down`` / ``lora_up`` and an optional ``alpha``. Ranks
    may differ from layer to layer.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or holds no LoRA.
    """
    lora = parse_lora(read_tensors(path), str(path))
    ranks = sorted({layer.rank for layer in lora.layers.values()})
    log.info("%s: LoRA of %d layers, rank %s", Path(path).name, len(lora.layers), "-".join(map(str, ranks)))
    return lora


def save_lora(lora: Lora, path: str | PathLike, metadata: Mapping[str, str] | None = None) -> None:
    """Write a LoRA as safetensors under the names that ComfyUI's own loaders read."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in lora.state_dict().items()}
    save_file(tensors, path, metadata={"format": "pt", **(metadata or {})})


def match_lora(lora: Lora, weights: Mapping[str, Iterable[int]]) -> Iterator[tuple[str, LoraLayer]]:
    """The layers of ``lora`` that exist among ``weights`` (parameter name -> shape).

    Raises:
        ValueError: no layer matches, or a layer has another size; the message says what to load instead.
    """
    matched = [(name, layer) for name, layer in lora.layers.items() if f"{name}.weight" in weights]
    if not matched:
        raise ValueError(
            f"no layer of the LoRA exists in the model (it names {sorted(lora.layers)[:3]}, the model has "
            f"{sorted(weights)[:3]}); pick a LoRA made for a Wan text-to-video model"
        )
    unused = [*(name for name in lora.layers if f"{name}.weight" not in weights), *lora.unknown]
    if unused:
        log.warning("LoRA: %d layers not used, such as %s", len(unused), unused[:5])
    for name, layer in matched:
        shape = tuple(weights[f"{name}.weight"])
        if (layer.up.shape[0], layer.down.shape[1]) != shape:
            raise ValueError(
                f"LoRA layer {name} is for a weight of {layer.up.shape[0]} x {layer.down.shape[1]}, the model's is "
                f"{shape[0]} x {shape[1]}: the LoRA was made for a model of another size (1.3B or 14B); pick its match"
            )
        yield name, layer


@torch.no_grad()
def merge_lora(model: nn.Module, lora: Lora, strength: float = 1.0) -> None:
    """Add ``strength * scale * up @ down`` to the weights of ``model``, in place; computed in fp32.

    Merging twice adds twice. Raises ``ValueError`` when no layer matches or a size differs; then nothing was changed.
    """
    parameters = dict(model.named_parameters())
    for name, layer in list(match_lora(lora, {key: value.shape for key, value in parameters.items()})):
        weight = parameters[f"{name}.weight"]
        up, down = (factor.to(weight.device, torch.float32) for factor in (layer.up, layer.down))
        weight.copy_(torch.addmm(weight.float(), up, down, alpha=strength * layer.scale))
