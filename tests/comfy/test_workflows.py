"""The workflow files of this pack run as they are."""

import io
import json
import re
from pathlib import Path

import av
import pytest
from PIL import Image

from pusa_core.weights.demo_files import DIT, LORA
from tests.support.workflows import API_DEMO, API_REAL
from tools.comfy_client import ComfyClient, Graph, PromptRefused
from tools.comfyui import PACK


def decode(video: bytes) -> list:
    with av.open(io.BytesIO(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def api_graph(name: str) -> Graph:
    return json.loads((PACK / "workflows" / "api" / f"{name}.json").read_text())


LENGTHS = {"demo_extend_video": 152, "demo_loop": 137}
"""Frames of the videos that are not as long as one window of the model: 9.5 s, and a clip with its way back."""


@pytest.mark.parametrize("name", API_DEMO)
def test_api_workflow_makes_a_video(comfy: ComfyClient, name: str) -> None:
    graph = api_graph(name)
    save = next(key for key, node in graph.items() if node["class_type"] == "SaveVideo")
    comfy.free()  # in older versions a node whose result is kept from another graph shows nothing
    outputs = comfy.run(graph)
    frames = decode(comfy.file(outputs[save]["images"][0]))
    assert len(frames) == LENGTHS.get(name, 81)
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


def with_demo_files(graph: Graph) -> Graph:
    """A graph for other models, with the demo's in their place, and small."""
    demo = {"class_type": "PusaDemoLoader", "inputs": {}}
    outputs = {key: kind for key, node in graph.items() if (kind := node["class_type"]) in ("CLIPLoader", "VAELoader")}
    names = {"model_name": DIT.name, "lora_name": LORA.name, "width": 64, "height": 64, "steps": 2}
    for key, node in graph.items():
        node["inputs"] |= {name: value for name, value in names.items() if name in node["inputs"]}
        for name, value in node["inputs"].items():
            if isinstance(value, list) and outputs.get(value[0]) == "VAELoader":
                node["inputs"][name] = [value[0], 1]
        if key in outputs:
            graph[key] = demo
    return graph


def test_pictures_of_any_size_fit_the_video_of_a_workflow(comfy: ComfyClient, server_base: Path) -> None:
    for name, size in (("start", (300, 90)), ("end", (70, 200))):
        Image.new("RGB", size, (200, 60, 40)).save(server_base / "input" / f"{name}.png")
    graph = with_demo_files(api_graph("start_end"))
    save = next(key for key, node in graph.items() if node["class_type"] == "SaveVideo")
    frames = decode(comfy.file(comfy.run(graph)[save]["images"][0]))
    assert len(frames) == 81 and {frame.shape for frame in frames} == {(64, 64, 3)}
    for frame in (frames[0], frames[-1]):  # cropped: no bars
        assert abs(frame.astype(float).mean((0, 1)) - (200, 60, 40)).max() < 30
