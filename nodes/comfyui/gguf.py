"""GGUF files, through the loader of the pack ComfyUI-GGUF where that is installed."""

import importlib
from pathlib import Path
from typing import Any

import folder_paths
from comfy.model_patcher import ModelPatcher

from ...pusa_core.weights.made_for_levels import made_for_levels
from .model import FAMILY, FILES, check_model
from .network import adopt

SUFFIX = ".gguf"
LOADER = "UnetLoaderGGUF"
FOLDER = "unet_gguf"
"""Where the pack lists its files: the folders of ``diffusion_models``."""


def loader() -> Any | None:
    """The pack's loader node, or None where the pack is not installed."""
    core = importlib.import_module("nodes")  # ComfyUI's own
    return core.NODE_CLASS_MAPPINGS.get(LOADER)


def gguf_names() -> list[str]:
    """The GGUF files that can be loaded; none without the pack."""
    return folder_paths.get_filename_list(FOLDER) if loader() is not None else []


def load_gguf(model_name: str) -> ModelPatcher:
    """Load one of :func:`gguf_names` as a MODEL with our DiT. Raises ``ValueError`` for anything but Wan t2v."""
    node = loader()
    if node is None:
        raise ValueError(f"{model_name} is a GGUF file; install the pack ComfyUI-GGUF, or pick a safetensors file")
    try:
        (model,) = node().load_unet(unet_name=model_name)
    except Exception as error:
        raise ValueError(f"ComfyUI-GGUF cannot load {model_name} ({error}); download or copy it again") from error
    check_model(model, model_name)
    network: Any = adopt(model.model.diffusion_model)
    layers, width = len(network.blocks), network.patch_embedding.out_channels
    network.report = f"Wan text-to-video {layers} layers of width {width}; GGUF, loaded by ComfyUI-GGUF"
    family = made_for_levels(model_name)
    if family is not None:
        network.report += f"; {family.describe()}"
    model.model.diffusion_model = network
    model.set_attachments(FILES, (Path(model_name).name,))
    model.set_attachments(FAMILY, family)
    return model
