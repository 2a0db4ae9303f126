"""int8, int4, nvfp4 and mxfp8 files, which newer versions of ComfyUI read with quantised operations of their own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.support.comfy_scripts import start_script
from tools.comfy_client import ComfyClient, RunFailed

from ..support.graphs import image_to_video, ksampler, native_loader, node, parts
from ..support.models import DIT

KINDS = ("nvfp4", "mxfp8", "int8_tensorwise", "asym_w4a8_int8")


@pytest.fixture(scope="module")
def quantised(comfyui: Path, server_base: Path) -> None:
    """The test model in every format, among the models of the server."""
    folder = server_base / "models" / "diffusion_models"
    done = start_script(comfyui, "write_quantised.py", folder, folder / DIT, text=" ".join(KINDS))
    if done.returncode and "quant_ops" in done.stderr:
        pytest.skip("this version of ComfyUI has no such formats")
    assert done.returncode == 0, done.stderr[-3000:]


def native(kind: str) -> dict[str, Any]:
    return native_loader(f"quantised_{kind}.safetensors")


def video_of(comfy: ComfyClient, model: dict[str, Any]) -> Tensor:
    return comfy.latent(image_to_video("0:0.3") | {"model": model}, "video")


@pytest.mark.usefixtures("quantised")
@pytest.mark.parametrize("kind", KINDS)
def test_native_and_pusa_loader_make_the_video_of_the_quantised_weights(comfy: ComfyClient, kind: str) -> None:
    """int8 rounds what it computes with, too, and so do not all steps of the two networks to the same side."""
    video = video_of(comfy, native(kind))
    assert (video - video_of(comfy, parts(f"quantised_{kind}.safetensors")["model"])).abs().max() < 1e-2
    assert (video - video_of(comfy, parts(f"plain_{kind}.safetensors")["model"])).abs().max() < 2e-2
    assert (video - video_of(comfy, parts()["model"])).abs().max() > 1e-2


@pytest.mark.usefixtures("quantised")
@pytest.mark.parametrize("kind", KINDS)
def test_pusa_patch_model_takes_a_quantised_model(comfy: ComfyClient, kind: str) -> None:
    graph = image_to_video("0:0.3") | {"model": native(kind)}
    graph["shifted"] = node("ModelSamplingSD3", model=["model", 0], shift=5.0)
    graph |= {"patched": node("PusaPatchModel", model=["shifted", 0]), "core": ksampler("patched", "mask")}
    assert (comfy.latent(graph, "core") - comfy.latent(graph, "video")).abs().max() < 1e-2


def test_a_version_without_the_format_refuses_the_file_by_name(comfy: ComfyClient, server_base: Path) -> None:
    folder, layer = server_base / "models" / "diffusion_models", "blocks.0.ffn.0"
    tensors = load_file(folder / DIT)
    tensors[f"{layer}.weight"] = torch.zeros(512, 128, dtype=torch.uint8)
    tensors[f"{layer}.comfy_quant"] = torch.tensor(list(b'{"format": "nvfp9"}'), dtype=torch.uint8)
    save_file(tensors, folder / "unknown_format.safetensors")
    with pytest.raises(
        RunFailed, match=rf"unknown_format.safetensors: {layer} is quantised as nvfp9, which this version"
    ):
        video_of(comfy, parts("unknown_format.safetensors")["model"])
