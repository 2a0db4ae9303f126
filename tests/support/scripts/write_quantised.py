"""Writes the test model in the quantised formats that newer versions of ComfyUI have; a script for its own Python.

``write_quantised.py FOLDER FILE``, run from ComfyUI's folder, writes ``quantised_<format>.safetensors`` with ComfyUI's
own quantisation of ``FILE``, and ``plain_<format>.safetensors`` with the weights that it holds.
"""

import json
import sys
from pathlib import Path

from in_comfyui import use_cpu

use_cpu()
import torch  # noqa: E402
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

FOLDER, FILE = (Path(argument) for argument in sys.argv[1:])

for kind in sys.stdin.read().split():
    quantised, plain = {}, {}
    for name, weight in load_file(FILE).items():
        if weight.ndim != 2 or not name.startswith("blocks"):
            quantised[name] = plain[name] = weight
            continue
        layout = QUANT_ALGOS[kind]["comfy_tensor_layout"]
        tensor = QuantizedTensor.from_float(weight.bfloat16(), layout, scale="recalculate")
        quantised |= {key: value.contiguous() for key, value in tensor.state_dict(name).items()}
        entry = torch.tensor(list(json.dumps({"format": kind}).encode()), dtype=torch.uint8)
        quantised[f"{name.removesuffix('.weight')}.comfy_quant"] = entry
        plain[name] = tensor.dequantize().float()
    save_file(quantised, FOLDER / f"quantised_{kind}.safetensors")
    save_file(plain, FOLDER / f"plain_{kind}.safetensors")
