"""The workflow files are what their descriptions say, and each task has all of its files."""

import json

import pytest

from tools.workflows.build import WORKFLOWS, documents
from tools.workflows.graph import NODE_TYPES, SIZES, Graph
from tools.workflows.listing import CORE, dump, is_of_pack, list_core, list_node
from tools.workflows.node_types import STORED
from tools.workflows.tasks import TASKS, WAN22
from tools.workflows.training import TRAIN

DOCUMENTS = documents()
NAMES = {f"{prefix}{task.name}" for task in (*TASKS, TRAIN) for prefix in ("", "demo_")} | {WAN22.name}


def test_files_are_up_to_date():
    stored = {
        str(path.relative_to(WORKFLOWS)): path.read_text()
        for path in [*WORKFLOWS.glob("*.json"), *WORKFLOWS.glob("api/*.json")]
    }
    assert stored.keys() == DOCUMENTS.keys()
    stale = [name for name, text in DOCUMENTS.items() if stored[name] != text]
    assert not stale, "run python -m tools.workflows.build"


def test_every_task_has_both_forms():
    graphs = {f"{name}.json" for name in NAMES} | {f"api/{name}.json" for name in NAMES}
    assert graphs | {"api/parameters.json"} == DOCUMENTS.keys()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_note_and_model_files(name):
    nodes = json.loads(DOCUMENTS[f"{name}.json"])["nodes"]
    (note,) = (node for node in nodes if node["type"] == "MarkdownNote")
    text = note["widgets_values"][0]
    assert "**Knobs**" in text and "lora_strength" in text
    if name.startswith("demo_"):
        return
    for node in nodes:
        files = [value for value in node.get("widgets_values", []) if str(value).endswith(".safetensors")]
        models = node["properties"].get("models", [])
        assert files == [model["name"] for model in models]
        for model in models:
            assert model["url"].endswith(model["name"]) and model["directory"] and model["url"] in text


def node(need, **inputs):
    """What ``/object_info`` says of a node."""
    shown = {"input": {need: inputs}, "input_order": {need: list(inputs)}, "output": ["IMAGE"], "output_name": ["out"]}
    return shown | {"display_name": "Node", "category": "Pusa/demo"}


def test_a_listing_keeps_what_graphs_rely_on():
    seed = ["INT", {"default": 0, "max": 9, "control_after_generate": True, "tooltip": "words"}]
    listed = list_node(node("optional", seed=seed, kind=[["a", "b"]], clip_name=[["on_this_disk"]], image=["IMAGE"]))
    assert listed["inputs"] == [
        ["optional", "seed", "INT", {"default": 0, "max": 9, "control_after_generate": True}],
        ["optional", "kind", "COMBO", {"options": ["a", "b"]}],
        ["optional", "clip_name", "COMBO", {}],
        ["optional", "image", "IMAGE", {}],
    ]
    assert listed["outputs"] == [["IMAGE", "out"]]


def test_the_listing_is_of_this_pack_and_of_what_the_graphs_use():
    text = STORED.read_text(encoding="utf-8")
    stored = json.loads(text)
    assert dump(stored) == text
    of_pack = {name for name, listed in stored.items() if is_of_pack(listed)}
    used = {entry["class_type"] for name in NAMES for entry in json.loads(DOCUMENTS[f"api/{name}.json"]).values()}
    assert stored.keys() - of_pack == set(CORE) == used - of_pack
    assert used <= SIZES.keys()
    assert list_core(dict.fromkeys(CORE, node("required"))).keys() == set(CORE)


def test_widgets_without_a_value_have_the_default_of_the_listing():
    graph = Graph("test")
    number = graph.add("PusaDemoImage", 0, seed=3)
    graph.add("CLIPTextEncode", 1, text=graph.slot(number, 1))
    graph.add("PusaSampler", 1, cfg=1.0)
    drawn = graph.page("")["nodes"]
    assert drawn[0]["widgets_values"] == [3, "fixed"]
    assert drawn[1]["widgets_values"] == [""]  # its value comes through the link
    assert drawn[1]["inputs"][0]["link"] == 1 and "widget" not in drawn[1]["inputs"][1]
    settings = {entry.name: entry.default for entry in NODE_TYPES["PusaSampler"].inputs if entry.is_widget}
    assert graph.api()["3"]["inputs"] == settings | {"cfg": 1.0}
    assert drawn[2]["widgets_values"][:4] == [settings["seed"], "fixed", settings["steps"], 1.0]


def test_an_input_that_is_unknown_or_needs_a_value_is_refused():
    with pytest.raises(ValueError, match=r"VAELoader has no input \['vae'\]; it has \['vae_name'\]"):
        Graph("test").add("VAELoader", 0, vae="file")
    with pytest.raises(ValueError, match="VAELoader is given no vae_name, which has no default"):
        Graph("test").add("VAELoader", 0)
