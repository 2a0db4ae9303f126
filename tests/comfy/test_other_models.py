"""Models that are not Wan text-to-video are refused by name, however they are loaded."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.comfy_scripts import run_script
from tools.comfy_client import ComfyClient, Graph, RunFailed

from ..support.graphs import image_to_video, keyframe, ksampler, native_loader, node, parts, text_to_video

FIX = "load a Wan2.1 or Wan2.2-14B text-to-video checkpoint instead"
WHAT = {
    "vace": "is a VACE model",
    "camera": "is a camera-control model",
    "camera22": "is a camera-control model",
    "i2v": "is an image-to-video model",
    "i2v22": "is an image-to-video model (36 input channels)",
    "ti2v_5b": "is the Wan2.2-5B model (48 latent channels)",
}


@pytest.fixture(scope="module", autouse=True)
def other_models(comfyui: Path, server_base: Path) -> None:
    """Small files of the refused models, among the models of the server."""
    run_script(comfyui, "write_other_models.py", server_base / "models" / "diffusion_models")


def native(name: str) -> dict[str, Any]:
    return native_loader(f"other_{name}.safetensors")


def patched(name: str) -> Graph:
    """Core KSampler behind Pusa Patch Model."""
    graph = parts() | {
        "model": native(name),
        "start": keyframe(),
        "patched": node("PusaPatchModel", model=["model", 0]),
    }
    return graph | {"video": ksampler("patched", "start")}


def as_low_noise_model(name: str) -> Graph:
    graph = image_to_video(model_low=["low", 0])
    return graph | {"low": native(name)}


NODES = {
    "Pusa Sampler": lambda name: image_to_video() | {"model": native(name)},
    "Pusa Sampler, text to video": lambda name: text_to_video() | {"model": native(name)},
    "Pusa Sampler, model_low": as_low_noise_model,
    "Pusa Patch Model": patched,
    "Pusa Load": lambda name: image_to_video() | {"model": parts(f"other_{name}.safetensors")["model"]},
}


@pytest.mark.parametrize("where", NODES)
@pytest.mark.parametrize("name", WHAT)
def test_another_wan_model_is_refused_by_name_with_the_fix(comfy: ComfyClient, name: str, where: str) -> None:
    with pytest.raises(RunFailed) as failed:
        comfy.latent(NODES[where](name), "video")
    assert f"{WHAT[name]}" in str(failed.value) and FIX in str(failed.value)
    expected = {"Pusa Load": f"other_{name}.safetensors is", "Pusa Sampler, model_low": "model_low is"}
    assert expected.get(where, "model is") in str(failed.value)


@pytest.mark.parametrize("where", ["Pusa Sampler", "Pusa Patch Model"])
def test_another_architecture_is_refused_by_name(comfy: ComfyClient, where: str) -> None:
    message = "model is SD3, not a Wan model; Pusa works with Wan2.1 or Wan2.2-14B text-to-video models"
    with pytest.raises(RunFailed, match=re.escape(message)):
        comfy.latent(NODES[where]("sd3"), "video")


V_PREDICTION = node("ModelSamplingDiscrete", model=["loaded", 0], sampling="v_prediction", zsnr=False)
SD3 = node("ModelSamplingSD3", model=["loaded", 0], shift=5.0)


def behind(change: dict[str, Any]) -> dict[str, Graph]:
    """A MODEL that the node ``change`` has changed, on every path into sampling."""
    graph = image_to_video() | {"loaded": parts()["model"], "model": change}
    return {
        "Pusa Sampler": graph,
        "Pusa Patch Model": graph
        | {"patched": node("PusaPatchModel", model=["model", 0])}
        | {"video": ksampler("patched", "start")},
        "KSampler": graph | {"video": ksampler("model", "start")},
    }


@pytest.mark.parametrize("path", behind(SD3))
def test_a_model_that_is_no_rectified_flow_is_refused_and_the_advice_works(comfy: ComfyClient, path: str) -> None:
    with pytest.raises(RunFailed, match="model has a model sampling that is not a rectified flow; remove the node"):
        comfy.latent(behind(V_PREDICTION)[path], "video")
    comfy.latent(behind(SD3)[path], "video")  # "ModelSamplingSD3 is fine"


@pytest.mark.parametrize("where", ["Pusa Sampler", "Pusa Patch Model"])
def test_a_wan_text_to_video_model_as_the_messages_say_works(comfy: ComfyClient, where: str) -> None:
    graph = NODES[where]("i2v") | {"model": parts()["model"]}
    assert comfy.latent(graph, "video").isfinite().all()
