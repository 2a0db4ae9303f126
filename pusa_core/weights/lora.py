"""Wan LoRA files of any format -> one representation; merging and saving."""

import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..storage.atomic import write_whole
from .files import check_finite, read_file
from .lora_tensors import HeaderScale, classify, header_scale
from .tensor_names import spelling

log = logging.getLogger(__name__)

PREFIX = "diffusion_model."  # read by ComfyUI and every common tool
MERGE_ELEMENTS = 1 << 20  # chunk of a weight that is merged in fp32 at a time
SIZES = {1536: "1.3B", 3072: "5B", 5120: "14B"}
"""Released Wan models by width."""


@dataclass(frozen=True)
class LoraLayer:
    """A low-rank update ``scale * up @ down``: ``down [rank, in]``, ``up [out, rank]``; more axes for Conv3d."""

    down: Tensor
    up: Tensor
    alpha: float | None = None

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """``alpha / rank``, or 1 for a file without alpha."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


@dataclass(frozen=True)
class Lora:
    """The content of a LoRA file, under original Wan names.

    ``layers``: low-rank updates by layer (``blocks.0.self_attn.q``). ``diffs``: full-rank updates by parameter
    (``blocks.0.norm3.bias``), as in distillation LoRAs. ``unknown``: tensor names that were not recognised.
    ``header_alpha``: the alpha that only the file's header has. ``name``: that of the file.
    """

    layers: dict[str, LoraLayer]
    unknown: tuple[str, ...] = ()
    diffs: dict[str, Tensor] = field(default_factory=dict)
    spelling: str = ""
    header_alpha: float | None = None
    name: str = ""

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors under the names that ComfyUI's own loaders read."""
        tensors = {}
        for name, layer in self.layers.items():
            tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.down
            tensors[f"{PREFIX}{name}.lora_B.weight"] = layer.up
            if layer.alpha is not None:
                tensors[f"{PREFIX}{name}.alpha"] = torch.tensor(layer.alpha)
        for name, diff in self.diffs.items():
            bias = name.endswith(".bias")
            layer_of = name.removesuffix(".bias").removesuffix(".weight")
            tensors[f"{PREFIX}{layer_of}.{'diff_b' if bias else 'diff'}"] = diff
        return tensors

    def describe(self) -> str:
        """Number of updates, ranks, dtype and naming scheme, as text."""
        ranks = sorted({layer.rank for layer in self.layers.values()})
        parts = []
        if ranks:
            span = str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
            with_alpha = "with alpha" if self.header_alpha is None else f"alpha {self.header_alpha:g} from the header"
            alpha = with_alpha if any(layer.alpha is not None for layer in self.layers.values()) else "no alpha"
            parts.append(f"{len(self.layers)} layers of rank {span}, {alpha}")
        if self.diffs:
            parts.append(f"{len(self.diffs)} full differences")
        tensors = [*(layer.down for layer in self.layers.values()), *self.diffs.values()]
        dtype = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors).most_common(1)[0][0]
        return ", ".join(filter(None, ["LoRA of " + " and ".join(parts), dtype, self.spelling]))


@dataclass(frozen=True)
class LoraMatch:
    """The updates of a LoRA that match a model's parameters, and the names of the others."""

    layers: dict[str, LoraLayer]
    diffs: dict[str, Tensor]
    unused: tuple[str, ...]

    def describe(self) -> str:
        """The number of updates that match, and the first ones that do not."""
        matched = len(self.layers) + len(self.diffs)
        text = f"{matched} of {matched + len(self.unused)} updates matched"
        return text + (f"; NOT USED: {', '.join(self.unused[:5])}" if self.unused else "")


def parse_lora(tensors: Mapping[str, Tensor], source: str, metadata: Mapping[str, str] | None = None) -> Lora:
    """Parse LoRA tensors of any supported format, and the header's ``metadata``; ``source`` names them in errors."""
    scale = header_scale(metadata or {}, source)
    parts: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for name, tensor in tensors.items():
        layer, kind = classify(name, source)
        if kind is None:
            unknown.append(name)
        elif kind in parts.setdefault(layer, {}):
            raise ValueError(f"{source} names {layer} twice, the second time as {name}; pick a file with one LoRA")
        else:
            parts[layer][kind] = tensor
    layers, diffs = {}, {}
    for name, part in parts.items():
        if "down" in part and "up" in part:
            layers[name] = _layer(name, part, source, scale)
        elif part.keys() & {"down", "up", "alpha"}:
            unknown.append(name)
        if "diff" in part:  # a modulation is a parameter of its own, everything else a layer with a weight
            diffs[name if name.endswith("modulation") else f"{name}.weight"] = part["diff"]
        if "diff_b" in part:
            diffs[f"{name}.bias"] = part["diff_b"]
    if not layers and not diffs:
        raise ValueError(
            f"{source} holds no LoRA of a known form (first names: {sorted(tensors)[:5]}); pick a Wan LoRA file"
        )
    for name, diff in diffs.items():
        check_finite(diff, name, source)
    used = scale is not None and any("down" in part and "alpha" not in part for part in parts.values())
    header_alpha = scale.alpha if scale is not None and used else None
    return Lora(layers, tuple(unknown), diffs, spelling(tensors), header_alpha, Path(source).name)


def _layer(name: str, part: Mapping[str, Tensor], source: str, scale: HeaderScale | None) -> LoraLayer:
    down, up = part["down"], part["up"]
    if not (down.numel() and up.numel() and min(down.ndim, up.ndim) > 1 and down.shape[0] == up[0].numel()):
        raise ValueError(
            f"{source}: layer {name} has factors of shapes {tuple(up.shape)} and {tuple(down.shape)}, "
            f"which cannot be multiplied; the file is damaged"
        )
    for factor in (down, up):
        check_finite(factor, name, source)
    alpha = part.get("alpha")
    if alpha is not None and (alpha.numel() != 1 or not math.isfinite(alpha.item())):
        raise ValueError(f"{source}: layer {name} has an alpha that is not one finite number; the file is damaged")
    if alpha is None and scale is not None:
        return LoraLayer(down, up, scale.alpha_of(name, down.shape[0]))
    return LoraLayer(down, up, None if alpha is None else float(alpha))


def load_lora(path: str | PathLike) -> Lora:
    """Load a Wan LoRA file.

    Reads original and diffusers names, bare or behind any known prefix (``diffusion_model.``, ``transformer.``,
    ``base_model.model.``, ``pipe.dit.`` ...), and names with underscores (``lora_unet_...``, ``lora_unet__...``); the
    factors as ``lora_A`` / ``lora_B`` with or without an adapter's name, or ``lora_down`` / ``lora_up``, with an
    optional ``alpha``, also one that only the header has (``lora_adapter_metadata``, ``ss_network_alpha``); full
    differences (``diff``, ``diff_b``). Ranks may differ from layer to layer.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or holds no LoRA.
    """
    tensors, metadata = read_file(path)
    lora = parse_lora(tensors, str(path), metadata)
    log.info("%s: %s", Path(path).name, lora.describe())
    return lora


def save_lora(lora: Lora, path: str | PathLike, metadata: Mapping[str, str] | None = None) -> None:
    """Write a LoRA as safetensors under the names that ComfyUI's own loaders read, atomically.

    Raises :class:`pusa_core.storage.atomic.SaveError`.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in lora.state_dict().items()}
    about = {"format": "pt", **(metadata or {})}
    write_whole(path, lambda file: save_file(tensors, file, about))


def match_lora(lora: Lora, shapes: Mapping[str, tuple[int, ...]]) -> LoraMatch:
    """Match the updates of ``lora`` to ``shapes`` (parameter name -> shape).

    Logs a warning for updates without a parameter. Raises ``ValueError`` when none matches or a shape differs; the
    message says what to load instead.
    """
    layers = {name: layer for name, layer in lora.layers.items() if f"{name}.weight" in shapes}
    diffs = {name: diff for name, diff in lora.diffs.items() if name in shapes}
    if not layers and not diffs:
        raise ValueError(
            f"no layer of the LoRA exists in the model (it names {sorted({**lora.layers, **lora.diffs})[:3]}, the "
            f"model has {sorted(shapes)[:3]}); pick a LoRA made for a Wan text-to-video model"
        )
    for name, layer in layers.items():
        shape = (layer.up.shape[0], *layer.down.shape[1:])
        if shape != tuple(shapes[f"{name}.weight"]):
            raise _another_size(name, shape, shapes[f"{name}.weight"])
    for name, diff in diffs.items():
        if tuple(diff.shape) != tuple(shapes[name]):
            raise _another_size(name, diff.shape, shapes[name])
    unused = tuple(name for name in (*lora.layers, *lora.diffs) if name not in layers and name not in diffs)
    match = LoraMatch(layers, diffs, unused + lora.unknown)
    if match.unused:
        log.warning("LoRA: %s", match.describe())
    return match


def _another_size(name: str, update: tuple[int, ...], weight: tuple[int, ...]) -> ValueError:
    theirs, ours = (next((SIZES[n] for n in sorted(shape) if n in SIZES), None) for shape in (update, weight))
    made_for = f"the {theirs} model, this is the {ours} one" if theirs and ours else "a model of another size"
    sizes = [" x ".join(map(str, shape)) for shape in (update, weight)]
    return ValueError(
        f"LoRA layer {name} is for a weight of {sizes[0]}, the model's is {sizes[1]}: the LoRA was made for "
        f"{made_for}; pick the LoRA of another size that matches (Wan has 1.3B and 14B)"
    )


def check_strength(strength: float, name: str) -> None:
    """Raise ``ValueError`` unless the strength ``name`` is a finite number."""
    if not math.isfinite(strength):
        raise ValueError(f"the LoRA strength {name} is {strength}; it must be a finite number, such as 1.0")


@torch.no_grad()
def merge_lora(model: nn.Module, lora: Lora, strength: float = 1.0) -> None:
    """Add ``strength * scale * up @ down`` and ``strength * diff`` to the weights of ``model``, in place, in fp32.

    Merging twice adds twice. Raises ``ValueError`` when nothing matches or a size differs; then nothing was changed.
    """
    check_strength(strength, f"of {lora.name or 'the LoRA'}")
    parameters = dict(model.named_parameters())
    match = match_lora(lora, {name: value.shape for name, value in parameters.items()})
    for name, layer in match.layers.items():
        _add_product(parameters[f"{name}.weight"], layer, strength * layer.scale)
    for name, diff in match.diffs.items():
        weight = parameters[name]
        weight.copy_(weight.float().add_(diff.to(weight.device, torch.float32), alpha=strength))


def _add_product(weight: Tensor, layer: LoraLayer, scale: float) -> None:
    """``weight += scale * up @ down``, in chunks of rows: an fp32 copy of a whole 14B layer takes 283 MB."""
    up, down = (factor.to(weight.device, torch.float32).flatten(1) for factor in (layer.up, layer.down))
    flat = weight.view(weight.shape[0], -1)  # a view, not a copy
    step = max(1, MERGE_ELEMENTS // flat.shape[1])
    for part, rows in zip(flat.split(step), up.split(step), strict=True):
        part.copy_(torch.addmm(part.float(), rows, down, alpha=scale))
