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
    for name, value in model.model.diffusion_model.named_parameters():
        weight = (value.dequantize() if hasattr(value, "dequantize") else value).detach().float().clone()
        patches = model.patches.get(f"diffusion_model.{name}")
        values[name] = weight if patches is None else comfy.lora.calculate_weight(patches, weight, name)
    return values


models, file, *loras = sys.argv[1:]
lines = Lines()
logging.getLogger().addHandler(lines)
logging.getLogger().setLevel(logging.INFO)
model = host.load_wan(f"{models}/diffusion_models/{file}", {}, disable_dynamic=True)
kinds = Counter(stored_dtype(value) for name, value in model.model.diffusion_model.named_parameters())
result: dict[str, Any] = {"dtypes": kinds, "report": model.model.diffusion_model.report}
if loras:
    path = f"{models}/loras/{loras[0]}"
    lora = core.load_lora(path)
    before = weights_of(model)
    patched, _ = comfy.sd.load_lora_for_models(model, None, comfy.utils.load_torch_file(path, safe_load=True), 1.0, 0.0)
    after = weights_of(patched)
    ours = core.WanModel(model.model.diffusion_model.config)
    ours.load_state_dict(before)
    core.merge_lora(ours, lora, 1.0)
    result["not loaded"] = [line for line in lines.lines if "not loaded" in line.lower()]
    result["changed"] = sorted(name for name in before if not torch.equal(before[name], after[name]))
    result["targets"] = sorted([*(f"{name}.weight" for name in lora.layers), *lora.diffs])
    result["error"] = max((after[name] - value).abs().max().item() for name, value in ours.named_parameters())
print(json.dumps(result))
