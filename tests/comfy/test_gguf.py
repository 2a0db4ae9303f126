"""GGUF files, through the loader of the ComfyUI-GGUF pack: its MODEL goes into Pusa's nodes as any native one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from tests.support.gguf_files import TYPES, write_gguf
from tools.comfy_client import ComfyClient, Graph
from tools.comfyui import make_base, running_server

from ..support.graphs import image_to_video, ksampler, node, parts
from ..support.models import LORA, random_dit, write_models

PACK = "ComfyUI-GGUF"


@pytest.fixture(scope="module")
def gguf_comfy(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyClient]:
    """A server with the pack ComfyUI-GGUF and one model in every type."""
    pack = next((path for path in (comfyui / "custom_nodes").iterdir() if path.name.lower() == PACK.lower()), None)
    if pack is None:
        pytest.skip(f"{PACK} is not among the custom nodes of {comfyui}")
    base = tmp_path_factory.mktemp("gguf")
    make_base(base)
    (base / "custom_nodes" / PACK).symlink_to(pack.resolve(), target_is_directory=True)
    write_models(base / "models")
    folder = base / "models" / "diffusion_models"
    for kind in TYPES:
        prefix = "model.diffusion_model." if kind == "F16" else ""
        held = write_gguf(random_dit(), kind, folder / f"wan_{kind}.gguf", prefix)
        save_file(held, folder / f"plain_{kind}.safetensors")
    with running_server(comfyui, base) as url:
        yield ComfyClient(url)


def gguf_model(kind: str) -> dict[str, Any]:
    return node("UnetLoaderGGUF", unet_name=f"wan_{kind}.gguf")


def plain(kind: str, lora: str = "none") -> Graph:
    """The video of the weights that the file holds, written as safetensors, by Pusa Load."""
    return image_to_video("0:0.3") | {"model": parts(f"plain_{kind}.safetensors", lora)["model"]}


@pytest.mark.parametrize("kind", TYPES)
def test_pusa_sampler_takes_a_gguf_model(gguf_comfy: ComfyClient, kind: str) -> None:
    video = gguf_comfy.latent(image_to_video("0:0.3") | {"model": gguf_model(kind)}, "video")
    difference = (video - gguf_comfy.latent(plain(kind), "video")).abs().max()
    rounding = (video - gguf_comfy.latent(image_to_video("0:0.3"), "video")).abs().max()
    assert difference < 1e-3 and difference < 0.2 * rounding


def test_pusa_patch_model_takes_a_gguf_model(gguf_comfy: ComfyClient) -> None:
    graph = image_to_video("0:0.3") | {"model": gguf_model("Q8_0")}
    graph["shifted"] = node("ModelSamplingSD3", model=["model", 0], shift=5.0)
    graph["patched"] = node("PusaPatchModel", model=["shifted", 0])
    graph["core"] = ksampler("patched", "mask")
    assert (gguf_comfy.latent(graph, "core") - gguf_comfy.latent(graph, "video")).abs().max() < 1e-3


@pytest.mark.parametrize("kind", TYPES)
def test_a_lora_acts_on_a_gguf_model(gguf_comfy: ComfyClient, kind: str) -> None:
    graph = image_to_video("0:0.3") | {"loaded": gguf_model(kind)}
    graph["model"] = node("LoraLoaderModelOnly", model=["loaded", 0], lora_name=LORA, strength_model=1.4)
    video = gguf_comfy.latent(graph, "video")
    assert (video - gguf_comfy.latent(plain(kind, LORA), "video")).abs().max() < 1e-3
    assert (video - gguf_comfy.latent(plain(kind), "video")).abs().max() > 1e-1
