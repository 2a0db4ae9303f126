"""Hangs every pattern into the native network and into ours; a script for ComfyUI's own Python, from its folder.

Prints one JSON object. ``patterns``: by name, the native network's effect and the greatest difference of ours from it,
over two steps with a timestep per frame. ``again``: whether ours is back at its bits after all of them. ``refused``:
the message about a ``forward_orig`` that takes one timestep. ``missing``: what other nodes find on the native network
and its layers, but not on ours.
"""

import importlib
import json
from typing import Any

import torch
from in_comfyui import load_pack
from torch import Tensor, nn

load_pack()
import comfy.model_patcher  # noqa: E402
import comfy.supported_models  # noqa: E402
from core_patterns import PATTERNS as OF_CORE  # noqa: E402
from hook_patterns import PATTERNS, REFUSED, Pattern  # noqa: E402

adopt = importlib.import_module("pack.nodes.comfyui.network").adopt

SIZES = {"dim": 256, "ffn_dim": 512, "num_heads": 2, "num_layers": 3, "in_dim": 16, "out_dim": 16}
FRAMES = 3


def make_model(ours: bool) -> comfy.model_patcher.ModelPatcher:
    settings = {"image_model": "wan2.1", "model_type": "t2v", "text_dim": 4096, "freq_dim": 256, "eps": 1e-6, **SIZES}
    made = comfy.supported_models.WAN21_T2V(settings)
    made.set_inference_dtype(torch.float32, None)
    model = made.get_model({}, "")
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.diffusion_model.named_parameters():
        offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05 + offset
    if ours:
        model.diffusion_model = adopt(model.diffusion_model)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def two_steps(model: comfy.model_patcher.ModelPatcher, pattern: Pattern | None = None, videos: int = 2) -> Tensor:
    """The velocities of two calls, as ComfyUI makes them: patched, with options of its own for each call, unpatched."""
    model = model.clone()
    model.model_options.setdefault("transformer_options", {})
    if pattern is not None:
        pattern(model)
    generator = torch.Generator().manual_seed(1)
    x, context = (
        torch.randn(videos, 16, FRAMES, 6, 8, generator=generator),
        torch.randn(videos, 7, 4096, generator=generator),
    )
    network = model.model.diffusion_model
    model.patch_model()
    try:
        velocities = []
        for scale in (1000.0, 600.0):
            timestep = torch.tensor([[0.0, 0.3, 1.0]]).expand(videos, -1) * scale
            options = dict(model.model_options["transformer_options"])
            velocities.append(network(x, timestep, context, transformer_options=options))
        return torch.cat(velocities)
    finally:
        model.unpatch_model()


def missing(native: nn.Module, ours: nn.Module) -> list[str]:
    """Layers, their classes, attributes, methods and children of ``native`` that ``ours`` lacks or has otherwise."""
    layers = dict(ours.named_modules())
    found = []
    for name, layer in native.named_modules():
        if name not in layers or not isinstance(layers[name], type(layer)):
            found.append(f"{name or 'network'}: {type(layer).__name__}")
            continue
        own = {key: value for key, value in vars(layer).items() if isinstance(value, bool | int | float | str | tuple)}
        lacking = [key for key in (*dir(layer), *vars(layer)) if not hasattr(layers[name], key)]
        other = [key for key, value in own.items() if getattr(layers[name], key, None) != value]
        found += [f"{name or 'network'}.{key}" for key in {*lacking, *other} - {"training"}]
    if type(ours).__name__ != type(native).__name__:
        found.append(f"network: the name {type(native).__name__}")
    return found


def main() -> None:
    native, ours = make_model(False), make_model(True)
    before = two_steps(ours)
    results: dict[str, Any] = {}
    for patterns, videos in ((PATTERNS, 2), (OF_CORE, 1)):  # InfiniteTalk takes one video
        plain = two_steps(native, videos=videos)
        for name, pattern in patterns.items():
            try:
                expected = two_steps(native, pattern, videos)
            except KeyError:  # a hook that older versions do not tell where it is
                continue
            effect, difference = expected - plain, two_steps(ours, pattern, videos) - expected
            results[name] = {"effect": effect.abs().max().item(), "difference": difference.abs().max().item()}
    again = torch.equal(two_steps(ours), before)
    try:
        two_steps(ours, REFUSED)
        refused = ""
    except ValueError as error:
        refused = str(error)
    lacks = missing(native.model.diffusion_model, ours.model.diffusion_model)
    print(json.dumps({"patterns": results, "again": again, "refused": refused, "missing": lacks}))


if __name__ == "__main__":
    with torch.inference_mode():
        main()
