"""Core nodes that act on a MODEL work together with per-frame noise levels."""

import time

import pytest
import torch

from demo.comfy_client import ComfyClient, Graph, RunFailed

from .graphs import CONTEXT_WINDOWS, image_to_video, keyframe, node, parts, sampler
from .models import DIT

NATIVE = node("UNETLoader", unet_name=DIT, weight_dtype="default")


def through(changed: dict, **graph: dict) -> Graph:
    """An image-to-video graph whose MODEL goes through the node ``changed``."""
    start = parts() | {"start": keyframe(length=33), "video": sampler("start", model=["changed", 0])}
    return start | {"changed": changed} | graph


CHANGES = {
    "context windows": CONTEXT_WINDOWS,
    "step cache": node(
        "EasyCache", model=["model", 0], reuse_threshold=0.2, start_percent=0.15, end_percent=0.95, verbose=False
    ),
    "guidance": node("RescaleCFG", model=["model", 0], multiplier=0.7),
    "model shift": node("ModelSamplingSD3", model=["model", 0], shift=11.0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_core_node_acts_alike_on_both_models(comfy: ComfyClient, name: str) -> None:
    ours = through(CHANGES[name])
    video, given = comfy.latent(ours, "video"), comfy.latent(ours, "start")
    assert video.isfinite().all()
    assert torch.equal(video[:, :, 0], given[:, :, 0])
    native = comfy.latent(through(CHANGES[name], model=NATIVE), "video")
    assert (video - native).abs().max() < 1e-3


def test_own_shift_does_not_matter(comfy: ComfyClient) -> None:
    plain = parts() | {"start": keyframe(length=33), "video": sampler("start")}
    shifted = through(CHANGES["model shift"])
    assert torch.equal(comfy.latent(plain, "video"), comfy.latent(shifted, "video"))


def test_core_sampler_runs_our_model(comfy: ComfyClient) -> None:
    graph = image_to_video()
    common = {"seed": 7, "steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    links = {"positive": ["positive", 0], "negative": ["negative", 0], "latent_image": ["empty", 0]}
    graph["core"] = node("KSampler", model=["model", 0], **links, **common)
    native = graph | {"model": NATIVE}
    assert (comfy.latent(graph, "core") - comfy.latent(native, "core")).abs().max() < 1e-3


def test_interrupt_ends_the_run(comfy: ComfyClient) -> None:
    save = node("SaveLatent", samples=["video", 0], filename_prefix="interrupted")
    prompt = comfy.queue(image_to_video(steps=1000) | {"save": save})
    while not comfy.get_json("/queue")["queue_running"]:
        time.sleep(0.05)
    comfy.post("/interrupt", {})
    with pytest.raises(RunFailed, match="interrupted"):
        comfy.wait(prompt, 60)
    assert comfy.latent(image_to_video(), "video").isfinite().all()
