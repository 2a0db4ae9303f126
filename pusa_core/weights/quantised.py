"""Quantised layers of a checkpoint, in every storage format -> one representation.

fp8 files store ``weight / scale`` rounded to 8 bits, with a scale per layer or per row. The scale is a tensor
``scale_weight`` (with or without a ``scaled_fp8`` marker in the file) or ``weight_scale`` (with a ``comfy_quant``
tensor beside it, ``_quantization_metadata`` in the header, or neither).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..storage.json_text import parse_json

MARKER = "scaled_fp8"
FP8 = {torch.float8_e4m3fn: "float8_e4m3fn", torch.float8_e5m2: "float8_e5m2"}
DEQUANTISED = torch.bfloat16  # its steps are 16 times finer than those of fp8
_SCALES = {"scale_weight": "scale", "weight_scale": "scale", "scale_input": "input_scale", "input_scale": "input_scale"}
_CONFIG, _HEADER = "comfy_quant", "_quantization_metadata"
_OTHER = ("weight_scale_2", "pre_quant_scale", "weight_s_rel", "weight_s_channel", "weight_codebook")
_FIX = "load it with ComfyUI's own loader for it, or pick an fp8, fp16 or bf16 file"


@dataclass(frozen=True)
class QuantisedLayer:
    """Quantisation of one layer's weight. ``format`` is ComfyUI's name for it; ``scale`` has 1 or ``rows`` entries.

    ``extra``: further tensors of ComfyUI's own formats (nvfp4, int8 ...), by suffix.
    """

    format: str
    scale: Tensor | None
    input_scale: Tensor | None
    config: dict[str, object]
    extra: dict[str, Tensor]

    @property
    def is_fp8(self) -> bool:
        """Whether the weight is fp8 or full precision, with a scale; other formats are ComfyUI's own."""
        return not self.format or self.format.startswith("float8")


def split_quantised(
    tensors: Mapping[str, Tensor], header: Mapping[str, dict[str, object]], source: str
) -> tuple[dict[str, Tensor], dict[str, QuantisedLayer], str]:
    """Separate weights from scales and other quantisation metadata.

    Args:
        tensors: by original name.
        header: entries of the file's ``_quantization_metadata`` by layer, see :func:`header_entries`.
        source: names the file in errors.

    Returns:
        Parameters by name, quantised layers by name, and the storage format as text ("" where nothing is quantised).

    Raises:
        ValueError: a scale or metadata that is malformed.
    """
    weights: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer, _, suffix = name.rpartition(".")
        if suffix in _SCALES or suffix in _OTHER or suffix == _CONFIG:
            parts.setdefault(layer, {})[suffix] = tensor
        elif name != MARKER:
            weights[name] = tensor
    # a marker with two entries asks for matrix products in full precision
    full = {"full_precision_matrix_mult": True} if MARKER in tensors and tensors[MARKER].numel() == 2 else {}
    layers = {}
    for name in sorted(parts.keys() | header.keys()):
        weight = weights.get(f"{name}.weight")
        if weight is None:
            raise ValueError(f"{source}: {name} has a scale but no weight; download or copy the file again")
        layers[name] = _layer(name, weight, parts.get(name, {}), {**full, **header.get(name, {})}, source)
    return weights, layers, _spelling(tensors, header, parts)


def _layer(
    name: str, weight: Tensor, parts: Mapping[str, Tensor], config: dict[str, object], source: str
) -> QuantisedLayer:
    if _CONFIG in parts:
        config = {**config, **_decode(parts[_CONFIG], name, source)}
    kind = str(config.get("format") or FP8.get(weight.dtype, ""))
    fields: dict[str, Tensor] = {_SCALES[suffix]: value for suffix, value in parts.items() if suffix in _SCALES}
    scale = fields.get("scale")
    extra = {suffix: value for suffix, value in parts.items() if suffix in _OTHER}
    if not kind and not weight.is_floating_point():
        raise ValueError(
            f"{source}: {name} is quantised to {weight.dtype} in a way that the file does not name; {_FIX}"
        )
    if kind and not kind.startswith("float8"):
        return QuantisedLayer(kind, scale, fields.get("input_scale"), config, extra)
    for field, value in fields.items():
        allowed = (1, weight.shape[0]) if field == "scale" else (1,)
        if value.numel() not in allowed or not value.is_floating_point() or not value.isfinite().all():
            raise ValueError(
                f"{source}: the {field} of {name} has shape {tuple(value.shape)} and dtype {value.dtype}; it must be "
                f"one finite number, or one for each of the {weight.shape[0]} rows; {_FIX}"
            )
    return QuantisedLayer(kind, scale, fields.get("input_scale"), config, extra)


def _decode(value: Tensor, name: str, source: str) -> dict[str, object]:
    try:
        config = parse_json(bytes(value.tolist()))
        if isinstance(config, dict):
            return config
    except (ValueError, TypeError):
        pass
    raise ValueError(f"{source}: the {_CONFIG} of {name} is not a JSON object; download or copy the file again")


def header_entries(metadata: Mapping[str, str], source: str) -> dict[str, dict[str, object]]:
    """The entries by layer of ``_quantization_metadata``; raises ``ValueError`` when it is malformed."""
    if _HEADER not in metadata:
        return {}
    try:
        layers = parse_json(metadata[_HEADER])["layers"]
        if all(isinstance(entry, dict) for entry in layers.values()):
            return dict(layers)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{source}: its {_HEADER} cannot be understood; download or copy the file again")


def _spelling(tensors: Mapping[str, Tensor], header: Mapping[str, object], parts: Mapping[str, Mapping]) -> str:
    suffixes = {suffix for layer in parts.values() for suffix in layer}
    marks = [MARKER] if MARKER in tensors else []
    marks += [_HEADER] if header else []
    return " + ".join(marks + [name for name in ("scale_weight", "weight_scale", _CONFIG) if name in suffixes])


def dequantise(weight: Tensor, layer: QuantisedLayer | None, name: str, source: str) -> Tensor:
    """Dequantise: fp8 becomes ``weight * scale`` in bf16; full-precision weights are returned unchanged.

    Raises ``ValueError`` for a quantisation other than fp8.
    """
    if layer is not None and not layer.is_fp8:
        raise ValueError(f"{source}: {name} is quantised as {layer.format}, which is only read in ComfyUI; {_FIX}")
    return widened(weight, None if layer is None else layer.scale)


def widened(weight: Tensor, scale: Tensor | None) -> Tensor:
    """``weight * scale``: in bf16 for a weight in 8 bits, in its own dtype for any other."""
    dtype = DEQUANTISED if weight.itemsize == 1 else weight.dtype
    if scale is None:
        return weight.to(dtype)
    # a conversion from 8 bits is exact, and the product is in fp32, as that of two tensors with axes, and rounded once
    return weight.to(dtype, copy=True).mul_(scale.float().reshape(-1, *[1] * (weight.ndim - 1)))


def as_e4m3(weight: Tensor, layer: QuantisedLayer) -> tuple[Tensor, QuantisedLayer]:
    """A layer in e5m2 with a scale, as one in e4m3 that stands for the same values.

    Moving the scale by a power of two keeps every value exactly, but for those below 1e-5 of the greatest one.
    """
    scale = torch.ones(()) if layer.scale is None else layer.scale
    values = weight.float()
    greatest = values.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    factor = torch.exp2((greatest / torch.finfo(torch.float8_e4m3fn).max).log2().ceil())
    moved = replace(layer, format=FP8[torch.float8_e4m3fn], scale=scale.float() * factor)
    return (values / factor).to(torch.float8_e4m3fn), moved


def comfy_tensors(
    weights: Mapping[str, Tensor], layers: Mapping[str, QuantisedLayer], marker: bool
) -> dict[str, Tensor]:
    """Weights and their quantisation in a storage format that ComfyUI reads.

    ``marker``: the older format, ``scaled_fp8`` and ``scale_weight``; otherwise ``comfy_quant`` beside each layer.
    """
    tensors = dict(weights)
    full = any(layer.config.get("full_precision_matrix_mult") for layer in layers.values())
    if layers and marker:
        kind = next((dtype for dtype, name in FP8.items() for layer in layers.values() if layer.format == name), None)
        tensors[MARKER] = torch.zeros(2 if full else 0, dtype=kind or torch.float8_e4m3fn)
    for name, layer in layers.items():
        scale = torch.ones(()) if layer.scale is None else layer.scale
        scale = scale.reshape(()) if scale.numel() == 1 else scale.reshape(-1, 1)
        tensors[f"{name}.{'scale_weight' if marker else 'weight_scale'}"] = scale
        if layer.input_scale is not None:
            tensors[f"{name}.{'scale_input' if marker else 'input_scale'}"] = layer.input_scale
        if not marker:
            tensors |= {f"{name}.{suffix}": value for suffix, value in layer.extra.items()}
            config = json.dumps({**layer.config, "format": layer.format}).encode()
            tensors[f"{name}.{_CONFIG}"] = torch.tensor(list(config), dtype=torch.uint8)
    return tensors
