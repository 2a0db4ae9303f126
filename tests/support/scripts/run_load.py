"""What loading does to the weights, which no output of a graph shows; a script for ComfyUI's own Python.

``run_load.py MODELS FILE [LORA]``, run from ComfyUI's folder, prints a JSON object.
"""

import importlib
import json
import logging
import sys
from collections import Counter
from typing import Any

from in_comfyui import load_pack

load_pack()
import comfy.lora  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

core = importlib.import_module("pack.pusa_core")
host = importlib.import_module("pack.nodes.comfyui.model")


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def stored_dtype(parameter: Tensor) -> str:
    stored = getattr(parameter, "_qdata", getattr(parameter, "data", parameter))
    return str(stored.dtype).removeprefix("torch.")


def weights_of(model: Any) -> dict[str, Tensor]:
    """Weights as a computation sees them, patches included."""
    values = {}
    parameters = dict(model.model.diffusion_model.named_parameters())
    scales = {name for name in parameters if name.endswith((".scale_weight", ".scale_input"))}  # older versions
    for name in parameters.keys() - scales:
        value, scale = parameters[name], parameters.get(f"{name.removesuffix('.weight')}.scale_weight")
        weight = (value.dequantize() if hasattr(value, "dequantize") else value).detach().float().clone()
        weight = weight if scale is None or not name.endswith(".weight") else weight * scale.float()
        patches = model.patches.get(f"diffusion_model.{name}")
        values[name] = weight if patches is None else comfy.lora.calculate_weight(patches, weight, name)
    return values


def ours_of(model: Any) -> dict[str, Tensor]:
    return dict(model.model.diffusion_model.named_parameters())


def relative_error(model: Any, merged: dict[str, Tensor], layer: str) -> float:
    """Mean relative error of a loaded, patched weight, as its layer computes with it."""
    name = f"{layer}.weight"
    module, wanted = model.model.diffusion_model.get_submodule(layer), merged[name].detach()
    weight = module.weight
    if hasattr(weight, "dequantize") and "Quantized" in type(weight).__name__:
        value = weight.dequantize().float()
    else:
        value = weight.detach().float()
        value = value * module.scale_weight.float() if getattr(module, "scale_weight", None) is not None else value
    large = wanted.abs() > wanted.abs().max() / 100
    return ((value - wanted).abs() / wanted.abs())[large].mean().item()


models, file, *loras = sys.argv[1:]
torch.set_grad_enabled(False)
lines = Lines()
logging.getLogger().addHandler(lines)
logging.getLogger().setLevel(logging.INFO)
model = host.load_wan(f"{models}/diffusion_models/{file}", {}, disable_dynamic=True)
kinds = Counter(stored_dtype(value) for name, value in model.model.diffusion_model.named_parameters())
result: dict[str, Any] = {"dtypes": kinds, "report": model.model.diffusion_model.report}
passed_on = host.host_tensors(host.read_wan(f"{models}/diffusion_models/{file}"))
result["attention"] = {name: bytes(value.tolist()).decode() for name, value in passed_on.items() if "attention" in name}
if loras:
    path = f"{models}/loras/{loras[0]}"
    lora = core.load_lora(path)
    before = weights_of(model)
    patched, _ = comfy.sd.load_lora_for_models(model, None, comfy.utils.load_torch_file(path, safe_load=True), 1.0, 0.0)
    after = weights_of(patched)
    ours = core.WanModel(model.model.diffusion_model.config)
    ours.load_state_dict(before)
    core.merge_lora(ours, lora, 1.0)
    added, _ = host.add_lora(model, lora, 1.0)
    merged, tables = dict(ours.named_parameters()), [name for name in lora.diffs if name.endswith("modulation")]
    added.patch_model()
    loaded = dict(added.model.diffusion_model.named_parameters())
    result["table error"] = max([(loaded[name] - merged[name]).abs().max().item() for name in tables], default=0.0)
    result["tables changed"] = sum(not torch.equal(loaded[name], before[name]) for name in tables)
    result["weight errors"] = [relative_error(added, merged, name) for name in lora.layers]
    added.unpatch_model()
    result["tables restored"] = all(
        torch.equal(value, before[name]) for name, value in ours_of(added).items() if name in tables
    )
    core_model = comfy.sd.load_diffusion_model(f"{models}/diffusion_models/{file}")
    core_patched, _ = comfy.sd.load_lora_for_models(core_model, None, comfy.utils.load_torch_file(path), 1.0, 0.0)
    core_patched.patch_model()
    result["core weight errors"] = [relative_error(core_patched, merged, name) for name in lora.layers]
    result["not loaded"] = [line for line in lines.lines if "not loaded" in line.lower()]
    result["changed"] = sorted(name for name in before if not torch.equal(before[name], after[name]))
    result["targets"] = sorted([*(f"{name}.weight" for name in lora.layers), *lora.diffs])
    result["error"] = max((after[name] - value).abs().max().item() for name, value in ours.named_parameters())
print(json.dumps(result))
