"""The tensors of a LoRA file: which layer and role a name stands for, and the scale that the header alone has."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..storage.json_text import parse_json
from .tensor_names import layer_name, original_name

# X.lora_A.weight, X.lora_A.default.weight (the adapter's name inside), X.lora_A
_AB = re.compile(r"(?P<layer>.+)\.lora_(?P<kind>[AB])(?:\.(?!weight$|bias$)[^.]+)?(?:\.weight)?", re.DOTALL)
_SUFFIXES = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".alpha": "alpha",
    ".diff": "diff",
    ".diff_b": "diff_b",
    ".w_norm": "diff",  # LyCORIS' names for norm layers
    ".b_norm": "diff_b",
}
_FOREIGN = {
    "hada_w1_a": "LoHa",
    "lokr_w1": "LoKr",
    "lokr_w1_a": "LoKr",
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",  # PEFT's name, which an adapter's name and ".weight" may follow
    "set_weight": "weights",
}
_PEFT, _KOHYA = "lora_adapter_metadata", "ss_network_alpha"


def classify(name: str, source: str) -> tuple[str, str | None]:
    """The layer that a tensor belongs to, and its role there; None for a tensor that is not recognised."""
    if kind := next((_FOREIGN[part] for part in name.split(".") if part in _FOREIGN), None):
        raise _not_plain(kind, name, source)
    if match := _AB.fullmatch(name):
        return layer_name(match["layer"]), "down" if match["kind"] == "A" else "up"
    for suffix, kind in _SUFFIXES.items():
        if name.endswith(suffix):
            return layer_name(name.removesuffix(suffix)), kind
    return name, None


def _not_plain(kind: str, name: str, source: str) -> ValueError:
    return ValueError(
        f"{source} holds {kind} ({name}), which is no plain LoRA; add it with ComfyUI's own LoRA loader behind "
        f"Pusa Load instead"
    )


@dataclass(frozen=True)
class HeaderScale:
    """The scale of layers that have no ``alpha`` tensor, as written in the file's header.

    ``layers``: alphas of single layers, by the end of the layer's name. ``by_root``: divided by the root of the rank
    instead of the rank (rsLoRA).
    """

    alpha: float
    layers: dict[str, float] = field(default_factory=dict)
    by_root: bool = False

    def alpha_of(self, layer: str, rank: int) -> float:
        """The alpha that, divided by the rank, is the scale of ``layer``."""
        ends = [end for end in self.layers if layer == end or layer.endswith(f".{end}")]
        alpha = self.layers[max(ends, key=len)] if ends else self.alpha
        return alpha * math.sqrt(rank) if self.by_root else alpha


def header_scale(metadata: Mapping[str, str], source: str) -> HeaderScale | None:
    """The scale in a LoRA's header, as PEFT (diffusers) and kohya's trainers write it; None where there is none.

    Raises ``ValueError`` for a header that cannot be understood, or is that of another kind of adapter.
    """
    try:
        if _PEFT in metadata:
            return _peft_scale(parse_json(metadata[_PEFT]), source)
        if metadata.get(_KOHYA, "None") != "None":
            return HeaderScale(_finite(metadata[_KOHYA]))
    except (TypeError, AttributeError, OverflowError, json.JSONDecodeError) as error:
        raise ValueError(f"{source}: the LoRA's scale in its header cannot be understood ({error!r})") from error
    return None


def _peft_scale(config: Mapping[str, object], source: str) -> HeaderScale | None:
    entries = {name.rpartition(".")[2]: value for name, value in config.items()}  # "transformer.lora_alpha"
    if entries.get("use_dora"):
        raise _not_plain("DoRA", "use_dora in its header", source)
    if entries.get("lora_alpha") is None:
        return None
    pattern = entries.get("alpha_pattern") or {}
    if not isinstance(pattern, dict):
        raise TypeError(f"alpha_pattern is {pattern!r}")
    block = "blocks.0."
    layers = {original_name(block + layer_name(name)).removeprefix(block): _finite(a) for name, a in pattern.items()}
    return HeaderScale(_finite(entries["lora_alpha"]), layers, bool(entries.get("use_rslora")))


def _finite(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise TypeError(f"alpha is {value!r:.60}")
    return number
