"""Writes small files of the models that Pusa refuses, in their real layout; a script for ComfyUI's own Python.

``write_other_models.py FOLDER``, run from ComfyUI's folder. The networks are ComfyUI's own, so the files have the names
and shapes by which ComfyUI tells the models apart.
"""

import sys
from pathlib import Path

from in_comfyui import use_cpu

use_cpu()
import comfy.ops  # noqa: E402
import torch  # noqa: E402
from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper  # noqa: E402
from comfy.ldm.wan import model as wan  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

FOLDER = Path(sys.argv[1])
SMALL = {"dim": 128, "ffn_dim": 128, "num_heads": 1, "num_layers": 2, "operations": comfy.ops.manual_cast}
SD3 = {
    "in_channels": 16,
    "depth": 1,
    "adm_in_channels": 64,
    "num_patches": 64,
    "pos_embed_max_size": 8,
    "operations": SMALL["operations"],
}
TEXT = {"target": "torch.nn.Linear", "params": {"in_features": 64, "out_features": 64}}
NETWORKS = {
    "vace": lambda: wan.VaceWanModel(vace_layers=1, vace_in_dim=96, **SMALL),
    "camera": lambda: wan.CameraWanModel("camera", in_dim=32, **SMALL),
    "camera22": lambda: wan.CameraWanModel("camera_2.2", in_dim=36, **SMALL),
    "i2v": lambda: wan.WanModel("i2v", in_dim=36, **SMALL),
    "i2v22": lambda: wan.WanModel("t2v", in_dim=36, **SMALL),
    "ti2v_5b": lambda: wan.WanModel("t2v", in_dim=48, out_dim=48, **SMALL),
    "sd3": lambda: OpenAISignatureMMDITWrapper(input_size=None, context_embedder_config=TEXT, **SD3),
}

for name, make in NETWORKS.items():
    weights = {key: torch.zeros_like(value) for key, value in make().state_dict().items()}
    save_file(weights, FOLDER / f"other_{name}.safetensors")
