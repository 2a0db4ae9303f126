"""Writes a Wan checkpoint in the forms that users have. Oracle of the tests: shares no code with the reader."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.", "net.", "transformer.", "pipe.dit.")
FORMS = ("original", *PREFIXES, "fp32", "bf16", "diffusers", "transformer. of diffusers", "pt", "pt inside", "with VAE")
_DIFFUSERS = (
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("head.modulation", "scale_shift_table"),
    ("head.head", "proj_out"),
    ("modulation", "scale_shift_table"),
    ("ffn.0", "ffn.net.0.proj"),
    ("ffn.2", "ffn.net.2"),
    ("norm3", "norm2"),
    ("self_attn", "attn1"),
    ("cross_attn", "attn2"),
    (".o.", ".to_out.0."),
    (".q.", ".to_q."),
    (".k.", ".to_k."),
    (".v.", ".to_v."),
)


def diffusers_name(name: str) -> str:
    for ours, theirs in _DIFFUSERS:
        name = name.replace(ours, theirs)
    return name


@dataclass(frozen=True)
class Quantisation:
    """How a form writes a quantised layer; ``words`` are expected in the report."""

    words: str
    dtype: torch.dtype = torch.float8_e4m3fn
    scale: str = ""
    marker: int | None = None  # number of entries
    config: bool = False
    header: bool = False
    rows: bool = False
    blocks_only: bool = True
    prefix: str = ""
    diffusers: bool = False

    @property
    def scaled(self) -> bool:
        return bool(self.scale)


QUANTISED = {
    "fp8": Quantisation("float8_e4m3fn without scales"),
    "fp8 e5m2": Quantisation("float8_e5m2 without scales", torch.float8_e5m2),
    "scaled_fp8": Quantisation("scaled_fp8 + scale_weight", scale="scale_weight", marker=0, blocks_only=False),
    "scaled_fp8, full": Quantisation("scaled_fp8 + scale_weight", scale="scale_weight", marker=2),
    "scaled_fp8, e5m2": Quantisation("scaled_fp8 + scale_weight", torch.float8_e5m2, scale="scale_weight", marker=0),
    "scale_weight": Quantisation("(scale_weight)", scale="scale_weight"),
    "weight_scale": Quantisation("(weight_scale)", scale="weight_scale", prefix="diffusion_model."),
    "weight_scale, rows": Quantisation("(weight_scale)", scale="weight_scale", rows=True),
    "comfy_quant": Quantisation("weight_scale + comfy_quant", scale="weight_scale", config=True),
    "comfy_quant, prefix": Quantisation(
        "weight_scale + comfy_quant", scale="weight_scale", config=True, prefix="model.diffusion_model."
    ),
    "header": Quantisation("_quantization_metadata + weight_scale", scale="weight_scale", header=True),
    "header, prefix": Quantisation(
        "_quantization_metadata", scale="weight_scale", header=True, prefix="model.diffusion_model."
    ),
    "diffusers names": Quantisation("diffusers names", scale="weight_scale", diffusers=True),
}


def _quantise(weights: dict[str, Tensor], how: Quantisation) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, layers = {}, {}
    if how.marker is not None:
        tensors[f"{how.prefix}scaled_fp8"] = torch.zeros(how.marker, dtype=how.dtype)
    for name, weight in weights.items():
        ours = how.prefix + (diffusers_name(name) if how.diffusers else name)
        wanted = name.endswith(".weight") and weight.ndim == 2 and (name.startswith("blocks") or not how.blocks_only)
        if not wanted:
            tensors[ours] = weight
            continue
        layer = ours.removesuffix(".weight")
        scale = torch.ones(())
        if how.scaled:
            scale = (weight.float().abs().amax(1) if how.rows else weight.float().abs().max()) / 448
            tensors[f"{layer}.{how.scale}"] = scale[:, None].contiguous() if how.rows else scale
        tensors[ours] = (weight.float() / (scale[:, None] if how.rows else scale)).to(how.dtype)
        layers[layer] = {"format": "float8_e4m3fn"}
        if how.config:
            tensors[f"{layer}.comfy_quant"] = torch.tensor(list(json.dumps(layers[layer]).encode()), dtype=torch.uint8)
    return tensors, {"_quantization_metadata": json.dumps({"layers": layers})} if how.header else {}


def write(form: str, weights: dict[str, Tensor], folder: Path) -> Path:
    """Write ``weights`` in ``form``, one of ``FORMS`` or ``QUANTISED``; the path of the file."""
    path = folder / f"{form.replace(' ', '_').replace(',', '').strip('.')}.safetensors"
    if form in QUANTISED:
        tensors, metadata = _quantise(weights, QUANTISED[form])
        save_file(tensors, path, metadata=metadata)
        return path
    if form.startswith("pt"):
        path = path.with_suffix(".pt")
        torch.save({"state_dict": weights, "step": 3} if form == "pt inside" else weights, path)
        return path
    tensors = weights
    if form in PREFIXES:
        tensors = {form + name: value for name, value in weights.items()}
    elif "diffusers" in form:
        prefix = "transformer." if form.startswith("transformer") else ""
        tensors = {prefix + diffusers_name(name): value for name, value in weights.items()}
    elif form in ("fp32", "bf16"):
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[form]
        tensors = {name: value.to(dtype) for name, value in weights.items()}
    elif form == "with VAE":
        tensors = {f"model.diffusion_model.{name}": value for name, value in weights.items()}
        tensors["first_stage_model.conv1.weight"] = torch.zeros(3)
    save_file(tensors, path)
    return path
