"""The workflow files are up to date, and each task has all of its files."""

import json

import pytest

from tests.support.pages import Opened
from tools.workflows.build import API_NAMES, SUBGRAPHS, WORKFLOWS, blueprints, documents
from tools.workflows.graph import NODE_TYPES, Graph, Place
from tools.workflows.layout import SIZES
from tools.workflows.listing import CORE, dump, is_of_pack, list_core, list_node
from tools.workflows.node_types import NEWER, STORED
from tools.workflows.page import Page
from tools.workflows.tasks import EXTEND

DOCUMENTS = documents()
NAMES = set(API_NAMES.values())


def test_files_are_up_to_date():
    stored = {
        str(path.relative_to(WORKFLOWS)): path.read_text()
        for path in [*WORKFLOWS.glob("*.json"), *WORKFLOWS.glob("api/*.json")]
    }
    assert stored.keys() == DOCUMENTS.keys()
    stale = [name for name, text in DOCUMENTS.items() if stored[name] != text]
    assert not stale, "run python -m tools.workflows.build"


def test_blueprints_are_up_to_date_and_one_node_each():
    stored = {path.name: path.read_text(encoding="utf-8") for path in SUBGRAPHS.glob("*.json")}
    assert stored == blueprints(), "run python -m tools.workflows.build"
    for name, text in stored.items():
        document = json.loads(text)
        (node,), (inner,) = document["nodes"], document["definitions"]["subgraphs"]
        assert node["type"] == inner["id"] and f"{inner['name']}.json" == name
        long = name == f"Pusa - {EXTEND.title}.json"
        assert [entry["type"] for entry in node["outputs"]] == ["VIDEO"] + ["IMAGE"] * long
        assert {entry["type"] for entry in node["inputs"] if "widget" not in entry} <= {"IMAGE", "VIDEO", "MASK"}
        assert "noise_levels" in [entry["name"] for entry in node["inputs"]] or "Text to video" in name or long
        assert "pusa" in document["extra"]["BlueprintSearchAliases"]


def test_every_workflow_has_its_own_card():
    cards = {path.stem: path.read_bytes() for path in WORKFLOWS.glob("*.jpg")}
    assert cards.keys() == API_NAMES.keys(), "run python -m tools.workflows.thumbnails"
    tasks = [title for title in API_NAMES if title.startswith("Pusa - ")]
    assert len({cards[title] for title in tasks}) == len(tasks)


def test_every_task_has_both_forms_and_a_name_that_a_person_reads():
    graphs = {f"{title}.json" for title in API_NAMES} | {f"api/{name}.json" for name in NAMES}
    assert graphs | {"api/parameters.json"} == DOCUMENTS.keys()
    assert all(title.startswith(("Pusa - ", "Pusa demo - ")) for title in API_NAMES)


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
    files = (json.loads(text) for path, text in DOCUMENTS.items() if not path.startswith("api/"))
    used = {node["class_type"] for page in files for node in Opened(page).prompt().values()} - NEWER.keys()
    assert stored.keys() - of_pack == set(CORE) == used - of_pack
    assert used <= SIZES.keys()
    assert list_core(dict.fromkeys(CORE, node("required"))).keys() == set(CORE)


def test_widgets_without_a_value_have_the_default_of_the_listing():
    graph = Graph("test", columns={1: "Picture", 2: "Video"})
    number = graph.add("PusaDemoImage", seed=3)
    with graph.at(Place(2)):
        graph.add("CLIPTextEncode", text=graph.slot(number, 1))
        graph.add("PusaSampler", cfg=1.0)
    drawn = {node["id"]: node for node in Page(graph).document("")["nodes"]}
    assert drawn[1]["widgets_values"] == [3, "fixed"]
    assert drawn[2]["widgets_values"] == [""]  # its value comes through the link
    assert [entry["name"] for entry in drawn[2]["inputs"]] == ["clip", "text"]  # as the page orders them
    assert drawn[2]["inputs"][1]["link"] == 1 and "widget" not in drawn[2]["inputs"][0]
    settings = {entry.name: entry.default for entry in NODE_TYPES["PusaSampler"].inputs if entry.is_widget}
    assert graph.api()["3"]["inputs"] == settings | {"cfg": 1.0}
    assert drawn[3]["widgets_values"][:4] == [settings["seed"], "fixed", settings["steps"], 1.0]


def test_an_input_that_is_unknown_or_needs_a_value_is_refused():
    with pytest.raises(ValueError, match=r"VAELoader has no input \['vae'\]; it has \['vae_name'\]"):
        Graph("test").add("VAELoader", vae="file")
    with pytest.raises(ValueError, match="VAELoader is given no vae_name, which has no default"):
        Graph("test").add("VAELoader")


def test_a_knob_sets_inputs_of_one_subgraph_and_one_value():
    graph = Graph("test")
    outside = graph.add("PrimitiveInt", value=1)
    with graph.at(Place(1, "inside")):
        one, two = graph.add("PrimitiveInt", value=1), graph.add("PrimitiveInt", value=2)
    graph.knob("n", "n", (one, "value"))
    for targets in ([(one, "value"), (two, "value")], [(outside, "value")]):
        with pytest.raises(ValueError, match="n needs inputs of one subgraph and one value"):
            graph.knob("n", "n", *targets)
