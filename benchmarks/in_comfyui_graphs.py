"""Models and graphs of ``benchmarks.in_comfyui``."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from pusa_core import Lora, LoraLayer, WanConfig, WanModel, save_lora
from tools.comfy_client import Graph
from tools.comfyui import PACK

DEMO = sorted(path.stem for path in (PACK / "workflows" / "api").glob("demo_*.json") if path.stem != "demo_train_lora")
TRAINING = "demo_train_lora"
BF16, FP8, LORA = "random_bf16.safetensors", "random_fp8_scaled.safetensors", "random_lora.safetensors"
FP8_MAX = 448.0  # of e4m3fn


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def write_models(models: Path, layers: int) -> None:
    """A model of the width of Wan2.1 1.3B with random weights, in bf16 and in fp8 with scales, and a LoRA for it."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = WanModel(WanConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=layers)).state_dict()
    full = {name: random_weight(name, tuple(value.shape)) for name, value in shapes.items()}
    save_file(full, models / "diffusion_models" / BF16)
    scaled: dict[str, Tensor] = {"scaled_fp8": torch.empty(2, dtype=torch.float8_e4m3fn)}
    for name, weight in full.items():
        if weight.ndim != 2 or not name.startswith("blocks"):
            scaled[name] = weight
            continue
        scale = weight.float().abs().max() / FP8_MAX
        scaled[name] = (weight.float() / scale).to(torch.float8_e4m3fn)
        scaled[name.removesuffix("weight") + "scale_weight"] = scale
    save_file(scaled, models / "diffusion_models" / FP8)
    targets = [f"blocks.{block}.self_attn.{part}" for block in range(layers) for part in "qkvo"]
    lora = {name: LoraLayer(torch.randn(16, 1536) / 1536**0.5, torch.randn(1536, 16) / 64) for name in targets}
    save_lora(Lora(lora), models / "loras" / LORA)


def random_weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """A weight with which activations keep their size from layer to layer."""
    if len(shape) == 1:
        return torch.full(shape, float("norm" in name and name.endswith("weight"))).bfloat16()
    fan_in = shape[-1] if "modulation" in name else torch.Size(shape[1:]).numel()
    return (torch.randn(shape) / fan_in**0.5).bfloat16()


def demo_graph(name: str) -> Graph:
    return json.loads((PACK / "workflows" / "api" / f"{name}.json").read_text())


def sampler_of(graph: Graph) -> str:
    return next(key for key, value in graph.items() if value["class_type"] in ("PusaSampler", "KSampler"))


def large_graph(file: str, steps: int, size: dict[str, int], loader: str = "pusa", lora: bool = False) -> Graph:
    """Image to video with the random model; ``loader``: ``pusa``, or ``native`` for ComfyUI's own network."""
    native = node("UNETLoader", unet_name=file, weight_dtype="default")
    ours = node("PusaLoad", model_name=file, lora_name="none", lora_strength=1.4)
    model = "lora" if lora else "model"
    inputs = {"positive": ["positive", 0], "negative": ["negative", 0], "latent": ["start", 0], "seed": 0}
    color = {"batch_size": 1, "color": 0x3366CC}
    return {
        "model": native if loader == "native" else ours,
        "lora": node("LoraLoaderModelOnly", model=["model", 0], lora_name=LORA, strength_model=1.0),
        "demo": node("PusaDemoLoader"),
        "positive": node("CLIPTextEncode", clip=["demo", 0], text="a small red square moves slowly left"),
        "negative": node("CLIPTextEncode", clip=["demo", 0], text=""),
        "picture": node("EmptyImage", width=size["width"], height=size["height"], **color),
        "start": node("PusaEncodeKeyframes", vae=["demo", 1], image=["picture", 0], position=0, length=size["length"]),
        "video": node("PusaSampler", model=[model, 0], steps=steps, cfg=3.0, shift=5.0, **inputs),
    }


def compiled(graph: Graph) -> Graph:
    """``graph`` with TorchCompileModel before its sampler."""
    key = sampler_of(graph)
    video = {**graph[key], "inputs": {**graph[key]["inputs"], "model": ["compiled", 0]}}
    compile_node = node("TorchCompileModel", model=graph[key]["inputs"]["model"], backend="inductor")
    return {**graph, "compiled": compile_node, key: video}
