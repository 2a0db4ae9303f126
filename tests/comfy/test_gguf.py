"""GGUF files, in Pusa Load and in the loader of the pack ComfyUI-GGUF, which both read them.

The pack is found in ``$COMFYUI_PACKS`` or among ComfyUI's custom nodes; ComfyUI's Python needs its requirement, gguf.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tools.comfy_client import ComfyClient, Graph, PromptRefused, RunFailed
from tools.comfyui import find_pack, make_base, running_server
from tools.gguf_files import TYPES, write_gguf

from ..support.graphs import image_to_video, ksampler, node, parts
from ..support.models import CONFIG, LORA, random_dit, write_models

PACK = "ComfyUI-GGUF"


@pytest.fixture(scope="module")
def gguf_comfy(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyClient]:
    """A server with the pack ComfyUI-GGUF and one model in every type."""
    pack = find_pack(comfyui, PACK)
    if pack is None:
        pytest.skip(f"{PACK} is neither in $COMFYUI_PACKS nor among the custom nodes of {comfyui}")
    base = tmp_path_factory.mktemp("gguf")
    make_base(base)
    (base / "custom_nodes" / PACK).symlink_to(pack, target_is_directory=True)
    write_models(base / "models")
    folder = base / "models" / "diffusion_models"
    for kind in TYPES:
        prefix = "model.diffusion_model." if kind == "F16" else ""
        held = write_gguf(random_dit(), kind, folder / f"wan_{kind}.gguf", prefix)
        save_file(held, folder / f"plain_{kind}.safetensors")
    image_to_video_model = random_dit()
    image_to_video_model["patch_embedding.weight"] = torch.zeros(CONFIG.dim, 36, 1, 2, 2)
    write_gguf(image_to_video_model, "Q8_0", folder / "wan_i2v.gguf")
    with running_server(comfyui, base) as url:
        yield ComfyClient(url)


def gguf_model(kind: str, loader: str = "pack") -> dict[str, Any]:
    if loader == "Pusa Load":
        return parts(f"wan_{kind}.gguf")["model"]
    return node("UnetLoaderGGUF", unet_name=f"wan_{kind}.gguf")


LOADERS = ["pack", "Pusa Load"]


def plain(kind: str, lora: str = "none") -> Graph:
    """The video of the weights that the file holds, written as safetensors, by Pusa Load."""
    return image_to_video("0:0.3") | {"model": parts(f"plain_{kind}.safetensors", lora)["model"]}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", TYPES)
def test_pusa_sampler_takes_a_gguf_model(gguf_comfy: ComfyClient, kind: str, loader: str) -> None:
    video = gguf_comfy.latent(image_to_video("0:0.3") | {"model": gguf_model(kind, loader)}, "video")
    difference = (video - gguf_comfy.latent(plain(kind), "video")).abs().max()
    rounding = (video - gguf_comfy.latent(image_to_video("0:0.3"), "video")).abs().max()
    assert difference < 1e-3 and difference < 0.2 * rounding


@pytest.mark.parametrize("loader", LOADERS)
def test_pusa_patch_model_takes_a_gguf_model(gguf_comfy: ComfyClient, loader: str) -> None:
    graph = image_to_video("0:0.3") | {"model": gguf_model("Q8_0", loader)}
    graph["shifted"] = node("ModelSamplingSD3", model=["model", 0], shift=5.0)
    graph["patched"] = node("PusaPatchModel", model=["shifted", 0])
    graph["core"] = ksampler("patched", "mask")
    assert (gguf_comfy.latent(graph, "core") - gguf_comfy.latent(graph, "video")).abs().max() < 1e-3


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", TYPES)
def test_a_lora_acts_on_a_gguf_model(gguf_comfy: ComfyClient, kind: str, loader: str) -> None:
    graph = image_to_video("0:0.3") | {"loaded": gguf_model(kind, loader)}
    graph["model"] = node("LoraLoaderModelOnly", model=["loaded", 0], lora_name=LORA, strength_model=1.4)
    video = gguf_comfy.latent(graph, "video")
    assert (video - gguf_comfy.latent(plain(kind, LORA), "video")).abs().max() < 1e-3
    assert (video - gguf_comfy.latent(plain(kind), "video")).abs().max() > 1e-1


def test_the_lora_of_pusa_load_acts_on_a_gguf_model(gguf_comfy: ComfyClient) -> None:
    video = gguf_comfy.latent(image_to_video("0:0.3") | {"model": parts("wan_Q4_0.gguf", LORA)["model"]}, "video")
    assert (video - gguf_comfy.latent(plain("Q4_0", LORA), "video")).abs().max() < 1e-3


def test_given_frames_can_be_left_out_with_a_gguf_model(gguf_comfy: ComfyClient) -> None:
    graph = image_to_video(given_frames_refresh=0) | {"model": gguf_model("Q8_0", "Pusa Load")}
    video = gguf_comfy.latent(graph, "video")
    assert torch.equal(video[:, :, 0], gguf_comfy.latent(graph, "start")[:, :, 0])


def test_another_wan_model_is_refused_by_the_name_of_its_file(gguf_comfy: ComfyClient) -> None:
    with pytest.raises(RunFailed, match=r"wan_i2v\.gguf is an image-to-video model"):
        gguf_comfy.latent(image_to_video() | {"model": gguf_model("i2v", "Pusa Load")}, "video")


def test_a_weight_dtype_is_refused_and_default_works(gguf_comfy: ComfyClient) -> None:
    graph = image_to_video() | {"model": gguf_model("Q8_0", "Pusa Load")}
    graph["model"]["inputs"]["weight_dtype"] = "fp8_e4m3fn"
    with pytest.raises(RunFailed, match=r"weight_dtype is fp8_e4m3fn, but wan_Q8_0\.gguf .*; set it to default"):
        gguf_comfy.latent(graph, "video")
    graph["model"]["inputs"]["weight_dtype"] = "default"
    assert gguf_comfy.latent(graph, "video").isfinite().all()


def listed(comfy: ComfyClient) -> list[str]:
    options = comfy.get_json("/object_info/PusaLoad")["PusaLoad"]["input"]["required"]["model_name"]
    return [name for name in options[1]["options"] if name.endswith(".gguf")]


def test_gguf_files_are_listed_where_the_pack_is_installed(gguf_comfy: ComfyClient) -> None:
    assert set(listed(gguf_comfy)) == {f"wan_{kind}.gguf" for kind in (*TYPES, "i2v")}


def test_gguf_files_are_not_listed_without_the_pack(comfy: ComfyClient, server_base: Path) -> None:
    path = server_base / "models" / "diffusion_models" / "wan_Q8_0.gguf"
    write_gguf(random_dit(), "Q8_0", path)
    try:
        assert not listed(comfy)
        with pytest.raises((PromptRefused, RunFailed), match=r"wan_Q8_0\.gguf"):
            comfy.latent(image_to_video() | {"model": gguf_model("Q8_0", "Pusa Load")}, "video")
    finally:
        path.unlink()
