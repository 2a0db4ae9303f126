"""Models that are not Wan text-to-video: right behind Pusa Patch Model, or refused by name, however they are loaded."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.other_models.measure import Report, measure
from tests.support.comfy_scripts import run_script
from tools.comfy_client import ComfyClient, Graph, RunFailed

from ..support.graphs import FRAMES, SIZE, image_to_video, keyframe, ksampler, native_loader, node, parts, text_to_video

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


@pytest.mark.parametrize("name", ["vace", "camera", "camera22"])
def test_a_network_with_one_time_for_all_frames_is_refused_by_name(comfy: ComfyClient, name: str) -> None:
    with pytest.raises(RunFailed, match=f"model {WHAT[name]}, whose network takes one time for all frames; {FIX}"):
        comfy.latent(patched(name), "video")


def latent_of(name: str) -> Graph:
    """A given first frame in the latents of a model."""
    if name != "ti2v_5b":
        return {}
    loaded = node("LoadLatent", latent="wan22_5b.latent")
    return {"loaded": loaded, "start": node("PusaFrameMask", latent=["loaded", 0], noise_levels="0:0, 2:0.3")}


@pytest.mark.parametrize("name", ["i2v", "i2v22", "ti2v_5b"])
def test_another_wan_model_keeps_given_frames_behind_pusa_patch_model(comfy: ComfyClient, name: str) -> None:
    graph = patched(name) | latent_of(name)
    video, given = comfy.latent(graph, "video"), comfy.latent(graph, "start")
    assert torch.equal(video[:, :, 0], given[:, :, 0]) and not torch.equal(video[:, :, 1], given[:, :, 1])


def test_the_picture_of_an_image_to_video_node_goes_with_its_model(comfy: ComfyClient) -> None:
    prompts = {"positive": ["positive", 0], "negative": ["negative", 0]}
    size = {"width": SIZE, "height": SIZE, "length": FRAMES, "batch_size": 1}
    picture = node("WanImageToVideo", vae=["demo", 1], start_image=["picture", 0], **prompts, **size)
    graph = patched("i2v22") | {"conditioned": picture}
    links = {"positive": ["conditioned", 0], "negative": ["conditioned", 1]}
    comfy.latent(graph | {"video": ksampler("patched", "start", **links)}, "video")
    control = {"camera_conditions": ["pose", 0]}
    graph |= {"pose": node("WanCameraEmbedding", camera_pose="Pan Up", width=SIZE, height=SIZE, length=FRAMES)}
    graph["conditioned"] = node("WanCameraImageToVideo", vae=["demo", 1], **control, **prompts, **size)
    with pytest.raises(RunFailed, match=r"carries a camera path \(camera_conditions\), meant for another Wan model"):
        comfy.latent(graph | {"video": ksampler("patched", "start", **links)}, "video")


@pytest.fixture(scope="module")
def report(comfyui: Path) -> Report:
    """What ``benchmarks.other_models`` measures."""
    return measure(comfyui)


KINDS = (
    *("Wan2.2 I2V-A14B", "Wan2.1 I2V-14B, InfiniteTalk", "Wan2.1 Fun, with a reference", "Wan2.2 TI2V-5B", "SCAIL"),
    *("SCAIL-2", "Wan2.2 Animate", "HuMo", "Wan2.2 S2V", "LTX-Video", "LTX-2", "Cosmos Predict2", "MiniMax-H3"),
    "InfiniteTalk",
)
WRONG_IN_CORE = ("Wan2.2 TI2V-5B", "LTX-Video", "LTX-2", "MiniMax-H3")


@pytest.mark.parametrize("kind", KINDS)
def test_every_sampler_ends_in_the_truth_at_any_levels(report: Report, kind: str) -> None:
    found = report[kind]
    if "missing" in found:
        pytest.skip(f"this ComfyUI has no {kind}")
    assert len(found["error"]) == 10
    assert max(found["error"].values()) < 1e-4  # float32, latents of deviation 1
    assert found["kept"]
    if kind in WRONG_IN_CORE:
        assert max(found["core"]) > 0.05  # what the mask alone does


@pytest.mark.parametrize("kind", KINDS)
def test_the_native_network_gets_every_time_on_its_own_tokens(report: Report, kind: str) -> None:
    found = report[kind]
    if "missing" in found:
        pytest.skip(f"this ComfyUI has no {kind}")
    assert found["beside"] < 1e-6  # references and poses are at the step's own level
    assert found["alone"] < 1e-4
    if kind != "MiniMax-H3":  # half of its sound's own sigma is not what its video's half is
        assert found["equal"] < 1e-4
    assert found["stock"] == 0


def test_networks_with_one_time_are_refused_in_every_version(report: Report) -> None:
    for kind in ("VACE", "Wan camera control", "Wan2.2 camera control"):
        assert "takes one time for all frames" in report[kind]["refused"]


@pytest.mark.parametrize("where", ["Pusa Sampler", "Pusa Patch Model"])
def test_another_architecture_is_refused_by_name(comfy: ComfyClient, where: str) -> None:
    message = "model is SD3, not a Wan model; Pusa works with Wan2.1 or Wan2.2-14B text-to-video models"
    with pytest.raises(RunFailed, match=re.escape(message)):
        comfy.latent({**NODES, "Pusa Patch Model": patched}[where]("sd3"), "video")


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
    graph = {**NODES, "Pusa Patch Model": patched}[where]("i2v") | {"model": parts()["model"]}
    assert comfy.latent(graph, "video").isfinite().all()
