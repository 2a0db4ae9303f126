"""Run with ComfyUI's own Python in its folder: what loading does to the weights, which no output of a graph shows.

``run_load.py PACK MODELS FILE [LORA]`` prints a JSON object.
"""

import importlib.util
import json
import logging
import sys
from collections import Counter
from pathlib import Path

pack, models, file, *loras = sys.argv[1:]
sys.argv = [sys.argv[0], "--cpu"]
sys.path.insert(0, ".")

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.lora  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import torch  # noqa: E402


def load_pack():
    spec = importlib.util.spec_from_file_location(
        "pack_of_nodes", Path(pack) / "__init__.py", submodule_search_locations=[pack]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return importlib.import_module("pack_of_nodes.nodes.comfyui.model"), importlib.import_module(
        "pack_of_nodes.pusa_core"
    )


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def stored_dtype(parameter):
    stored = getattr(parameter, "_qdata", getattr(parameter, "data", parameter))
    return str(stored.dtype).removeprefix("torch.")


def weights_of(model):
    """Weights as a computation sees them, patches included."""
    values = {}
    for name, value in model.model.diffusion_model.named_parameters():
        weight = (value.dequantize() if hasattr(value, "dequantize") else value).detach().float().clone()
        patches = model.patches.get(f"diffusion_model.{name}")
        values[name] = weight if patches is None else comfy.lora.calculate_weight(patches, weight, name)
    return values


host, core = load_pack()
lines = Lines()
logging.getLogger().addHandler(lines)
logging.getLogger().setLevel(logging.INFO)
model = host.load_wan(f"{models}/diffusion_models/{file}", {}, disable_dynamic=True)
kinds = Counter(stored_dtype(value) for name, value in model.model.diffusion_model.named_parameters())
result = {"dtypes": kinds, "report": model.model.diffusion_model.report}
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
sys.stdout.write("RESULT " + json.dumps(result) + "\n")
