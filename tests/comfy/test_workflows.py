"""The workflow files of this pack run as they are."""

import io
import json
import re

import av
import pytest

from tests.support.workflows import API_DEMO, API_REAL
from tools.comfy_client import ComfyClient, Graph, PromptRefused
from tools.comfyui import PACK


def decode(video: bytes) -> list:
    with av.open(io.BytesIO(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def api_graph(name: str) -> Graph:
    return json.loads((PACK / "workflows" / "api" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", API_DEMO)
def test_api_workflow_makes_a_video(comfy: ComfyClient, name: str) -> None:
    graph = api_graph(name)
    save = next(key for key, node in graph.items() if node["class_type"] == "SaveVideo")
    comfy.post("/free", {"free_memory": True})  # a node whose result is kept from another graph shows nothing
    outputs = comfy.run(graph)
    frames = decode(comfy.file(outputs[save]["images"][0]))
    assert len(frames) == 81
    assert {frame.shape for frame in frames} == {(64, 64, 3)}
    for mask in (key for key, node in graph.items() if node["class_type"] == "PusaFrameMask"):
        assert comfy.file(outputs[mask]["images"][0]).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", API_REAL)
def test_api_workflow_for_other_models_lacks_only_files(comfy: ComfyClient, name: str) -> None:
    """On a server without the files, the one thing wrong with the graph is that they are missing."""
    graph = api_graph(name)
    values = [value for node in graph.values() for value in node["inputs"].values()]
    files = [value for value in values if isinstance(value, str) and re.search(r"\.(safetensors|png|mp4)$", value)]
    files += [f'"{node["inputs"]["dataset"]}"' for node in graph.values() if "dataset" in node["inputs"]]
    with pytest.raises(PromptRefused) as refused:
        comfy.queue(graph)
    # ComfyUI 0.3.64 leaves the values of Pusa Train LoRA to the node itself, and then sums nothing up
    reasons = [line for line in str(refused.value).splitlines() if not line.startswith("Prompt outputs failed")]
    assert all(any(file in reason for file in files) for reason in reasons), reasons
    for kind, key in (("CLIPLoader", "clip_name"), ("VAELoader", "vae_name")):
        file = next(node["inputs"][key] for node in graph.values() if node["class_type"] == kind)
        assert any(file in reason for reason in reasons)
