"""The workflow files of this pack run as they are."""

import io
import json
from pathlib import Path
from typing import Any

import av
import pytest

from demo.comfy_client import ComfyClient
from demo.comfyui import PACK

WORKFLOWS = sorted((PACK / "workflows").glob("demo_*.json"))
NAMES = [path.stem for path in WORKFLOWS]


def decode(video: bytes) -> list:
    with av.open(io.BytesIO(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def widget_values(node: dict[str, Any]) -> list[Any]:
    return [value for value in node.get("widgets_values", []) if value not in ("fixed", "randomize")]


@pytest.mark.parametrize("name", NAMES)
def test_api_workflow_makes_a_video(comfy: ComfyClient, name: str) -> None:
    graph = json.loads((PACK / "workflows" / "api" / f"{name}.json").read_text())
    save = next(key for key, node in graph.items() if node["class_type"] == "SaveVideo")
    outputs = comfy.run(graph)
    frames = decode(comfy.file(outputs[save]["images"][0]))
    assert len(frames) == 81
    assert {frame.shape for frame in frames} == {(64, 64, 3)}
    if name == "demo_image_to_video":
        mask = next(key for key, node in graph.items() if node["class_type"] == "PusaFrameMask")
        assert comfy.file(outputs[mask]["images"][0]).startswith(b"\x89PNG")


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_both_formats_hold_the_same_graph(path: Path) -> None:
    drawn = json.loads(path.read_text())
    graph = json.loads((path.parent / "api" / path.name).read_text())
    nodes = {str(node["id"]): node for node in drawn["nodes"] if node["type"] != "MarkdownNote"}
    assert {key: node["type"] for key, node in nodes.items()} == {key: v["class_type"] for key, v in graph.items()}
    links = {link[0]: [str(link[1]), link[2]] for link in drawn["links"]}
    for key, node in nodes.items():
        wired = {entry["name"]: links[entry["link"]] for entry in node["inputs"] if entry["link"] is not None}
        inputs = graph[key]["inputs"]
        assert wired == {name: value for name, value in inputs.items() if isinstance(value, list)}
        constants = [value for value in inputs.values() if not isinstance(value, list)]
        typed = [value for value in widget_values(node) if value != "" or "" in constants]
        assert typed == constants, node["type"]
