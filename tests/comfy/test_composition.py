"""Core nodes that act on a MODEL work together with per-frame noise levels."""

import shutil

import pytest
import torch

from tests.support.patience import wait_for
from tools.comfy_client import ComfyClient, Graph, RunFailed

from ..support.graphs import CHANGES, NATIVE, image_to_video, keyframe, ksampler, node, parts, sampler

CFG = 10.0  # random weights hardly read the prompt; guidance must matter all the same


def graph_with(changed: dict, **graph: dict) -> Graph:
    """An image-to-video graph whose MODEL goes through the node ``changed``."""
    start = parts() | {"start": keyframe(length=33), "video": sampler("start", model=["changed", 0], cfg=CFG)}
    return start | {"changed": changed} | graph


ONLY_NEWER = ("positions",)


@pytest.fixture(scope="module")
def plain(comfy: ComfyClient) -> torch.Tensor:
    """The video without a node in between."""
    return comfy.latent(parts() | {"start": keyframe(length=33), "video": sampler("start", cfg=CFG)}, "video")


@pytest.mark.parametrize("name", CHANGES)
def test_core_node_acts_alike_on_both_models(comfy: ComfyClient, plain: torch.Tensor, name: str) -> None:
    if name in ONLY_NEWER and CHANGES[name]["class_type"] not in comfy.get_json("/object_info"):
        pytest.skip("this version of ComfyUI does not have the node")
    ours = graph_with(CHANGES[name])
    video, given = comfy.latent(ours, "video"), comfy.latent(ours, "start")
    assert video.isfinite().all()
    assert torch.equal(video[:, :, 0], given[:, :, 0])
    native = comfy.latent(graph_with(CHANGES[name], model=NATIVE), "video")
    assert (video - native).abs().max() < 1e-3
    assert (video - plain).abs().max() > 0.01  # or the agreement would prove nothing


@pytest.mark.parametrize("name", ["step cache", "skipped layers", "skipped layers, negative only", "context windows"])
def test_frames_left_out_beside_a_core_node(comfy: ComfyClient, name: str) -> None:
    """What a pass keeps is its own: the result is near that of computing all frames, never another pass's."""
    graph = graph_with(CHANGES[name])
    exact = comfy.latent(graph, "video")
    graph["video"]["inputs"]["given_frames_refresh"] = 2
    video = comfy.latent(graph, "video")
    assert (video - exact).abs().mean() < 0.02 * exact.abs().mean()
    assert torch.equal(video, exact) == (name == "context windows")  # where given frames move from window to window


def test_own_shift_does_not_matter(comfy: ComfyClient, plain: torch.Tensor) -> None:
    shifted = graph_with(node("ModelSamplingSD3", model=["model", 0], shift=11.0))
    assert torch.equal(comfy.latent(shifted, "video"), plain)


def test_core_sampler_runs_our_model(comfy: ComfyClient) -> None:
    graph = image_to_video()
    graph["core"] = ksampler("model", "empty")
    native = graph | {"model": NATIVE}
    assert (comfy.latent(graph, "core") - comfy.latent(native, "core")).abs().max() < 1e-3


def test_interrupt_ends_the_run(comfy: ComfyClient) -> None:
    save = node("SaveLatent", samples=["video", 0], filename_prefix="interrupted")
    prompt = comfy.queue(image_to_video(steps=1000) | {"save": save})
    wait_for(lambda: comfy.get_json("/queue")["queue_running"])

    def ended() -> bool:
        comfy.post("/interrupt", {})  # again and again: ComfyUI drops one that comes before the run has begun
        return prompt in comfy.get_json(f"/history/{prompt}")

    wait_for(ended)
    with pytest.raises(RunFailed, match="interrupted"):
        comfy.wait(prompt)
    assert comfy.latent(image_to_video(), "video").isfinite().all()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("model", ["pusa", "native"])
def test_a_compiled_model_makes_the_same_video(comfy: ComfyClient, plain: torch.Tensor, model: str) -> None:
    compiled = node("TorchCompileModel", model=["model", 0], backend="inductor")
    graph = graph_with(compiled, **({"model": NATIVE} if model == "native" else {}))
    assert (comfy.latent(graph, "video") - plain).abs().max() < 1e-3
