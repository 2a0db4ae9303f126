"""A page that looks on is told each frame's noise level while it falls; one that did not ask is told nothing."""

import json
import uuid
from typing import Any

import pytest
import torch

from pusa_core.sampling.schedule import flow_sigmas, sigma_table
from tools.comfy_client import ComfyClient, Graph

from ..support.graphs import image_to_video, ksampler, node
from ..support.page import connect, show

LEVEL, STEPS = 0.5, 4


def graph(sampler: str) -> Graph:
    """Three latent frames, of which the first begins at ``LEVEL``, in ``STEPS`` steps."""
    made = image_to_video(f"0:{LEVEL}")
    if sampler == "KSampler":
        made |= {"shifted": node("ModelSamplingSD3", model=["model", 0], shift=5.0)}
        made |= {"patched": node("PusaPatchModel", model=["shifted", 0]), "video": ksampler("patched", "mask")}
    return {**made, "save": node("SaveLatent", samples=["video", 0], filename_prefix="live")}


@pytest.mark.parametrize("sampler", ["PusaSampler", "KSampler"])
def test_the_page_that_queued_a_graph_is_told_the_levels_after_each_step(comfy: ComfyClient, sampler: str) -> None:
    told = show(comfy, graph(sampler)).levels
    table = sigma_table(flow_sigmas(STEPS), torch.tensor([LEVEL, 1.0, 1.0]))
    assert told == {"video": [pytest.approx(levels, abs=1e-3) for levels in table[1:].tolist()]}


@pytest.mark.parametrize("sampler", ["PusaSampler", "KSampler"])
def test_nobody_is_told_of_a_graph_that_no_page_queued(comfy: ComfyClient, sampler: str) -> None:
    socket = connect(comfy, uuid.uuid4().hex)
    comfy.run(graph(sampler))
    socket.settimeout(1)
    assert "pusa.noise_levels" not in kinds(socket)


def kinds(socket: Any) -> list[str]:
    """The kinds of messages that came until there were no more."""
    found = []
    websocket = pytest.importorskip("websocket")
    while True:
        try:
            message = socket.recv()
        except websocket.WebSocketTimeoutException:
            return found
        if isinstance(message, str):
            found.append(json.loads(message)["type"])
