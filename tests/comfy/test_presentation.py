"""What users see of the nodes: labels, folded inputs, search aliases, texts and pictures on the node, previews."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.comfy_scripts import run_script
from tools.comfy_client import ComfyClient, Graph
from tools.workflows.listing import is_of_pack

from ..support.graphs import image_to_video, node
from ..support.page import show


@pytest.fixture(scope="module")
def nodes(comfy: ComfyClient) -> dict[str, Any]:
    return {name: info for name, info in comfy.get_json("/object_info").items() if is_of_pack(info)}


def inputs_of(info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of a node's inputs by name."""
    groups = (info["input"].get(need, {}) for need in ("required", "optional"))
    return {name: (spec[1] if len(spec) > 1 else {}) for group in groups for name, spec in group.items()}


def test_every_input_has_a_label_and_every_input_and_output_a_tooltip(nodes: dict[str, Any]) -> None:
    for name, info in nodes.items():
        for key, settings in inputs_of(info).items():
            assert settings["display_name"][0].isupper() and "_" not in settings["display_name"], (name, key)
            assert settings.get("tooltip"), (name, key)
        assert all(info["output_tooltips"]), name


def test_the_trainer_shows_few_inputs_until_asked_for_more(nodes: dict[str, Any]) -> None:
    shown = [key for key, settings in inputs_of(nodes["PusaTrainLora"]).items() if not settings.get("advanced")]
    assert len(shown) <= 10 and {"dataset", "steps", "output_name", "sample_image"} <= set(shown)


def test_newer_versions_get_search_aliases(nodes: dict[str, Any]) -> None:
    listed = [info.get("search_aliases") for info in nodes.values()]
    assert all(listed) or not any("search_aliases" in info for info in nodes.values())


def test_pusa_load_says_on_the_node_what_it_matched(comfy: ComfyClient) -> None:
    files = {"model_name": "pusa_demo_wan_t2v.safetensors", "lora_name": "pusa_demo_lora.safetensors"}
    graph = image_to_video(steps=1) | {"model": node("PusaLoad", **files, lora_strength=0.7)}
    graph |= {"save": node("SaveLatent", samples=["video", 0], filename_prefix="presentation")}
    assert any("60 of 60 updates matched" in text for text in show(comfy, graph).texts)


def test_the_demo_image_shows_its_picture(comfy: ComfyClient) -> None:
    graph = {"image": node("PusaDemoImage", seed=41), "save": node("PreviewImage", images=["image", 0])}
    (entry,) = show(comfy, graph).outputs["image"]["images"]
    assert comfy.file(entry).startswith(b"\x89PNG")


def test_a_graph_whose_result_is_kept_from_another_shows_the_timeline(comfy: ComfyClient) -> None:
    if "has_intermediate_output" not in comfy.get_json("/object_info/PusaFrameMask")["PusaFrameMask"]:
        pytest.skip("this version of ComfyUI shows what ran alone")
    graph = image_to_video("0:0.2", steps=1)
    graph |= {"save": node("SaveLatent", samples=["video", 0], filename_prefix="kept")}
    show(comfy, graph)
    name = {key: f"other_{key}" for key in graph}
    other: Graph = {}
    for key, entry in graph.items():
        inputs = {k: [name[v[0]], v[1]] if isinstance(v, list) else v for k, v in entry["inputs"].items()}
        other[name[key]] = {**entry, "inputs": inputs}
    (shown,) = show(comfy, other).outputs["other_mask"]["images"]
    assert comfy.file(shown).startswith(b"\x89PNG")


def test_the_preview_of_the_demo_model_has_the_colours_of_the_video(comfyui: Path) -> None:
    errors = json.loads(run_script(comfyui, "run_preview.py"))
    assert errors["demo"] < 0.06 and errors["demo"] < errors["wan"] / 2, errors
