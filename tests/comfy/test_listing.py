"""Node ids, inputs, their order, types and defaults are what shared graphs rely on: they must not change."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import Opened
from tests.support.workflows import WORKFLOWS
from tools.comfy_client import ComfyClient
from tools.comfyui import PACK, PACK_NAME, make_base, running_server
from tools.translate import ENGLISH, LANGUAGES, documents, english_texts
from tools.workflows.build import API_NAMES
from tools.workflows.listing import CORE, is_of_pack, list_pack
from tools.workflows.node_types import STORED, WIDGETS

STORED_NODES = json.loads(STORED.read_text(encoding="utf-8"))
GRAPHS = [Opened(json.loads(path.read_text())).prompt() for path in WORKFLOWS]


def test_nodes_are_as_published(comfy: ComfyClient) -> None:
    of_pack = {name: node for name, node in STORED_NODES.items() if is_of_pack(node)}
    assert list_pack(comfy.get_json("/object_info")) == of_pack, "to add to it: python -m tools.workflows.listing"
    assert STORED_NODES.keys() - of_pack.keys() == set(CORE)


@pytest.mark.parametrize("name", CORE)
def test_this_comfyui_has_every_core_input_that_a_graph_sets(comfy: ComfyClient, name: str) -> None:
    nodes = [node for graph in GRAPHS for node in graph.values() if node["class_type"] == name]
    used = {key for node in nodes for key in node["inputs"]}
    node = comfy.get_json("/object_info")[name]
    assert used and used <= set(input_names(node["input"]))
    assert len(node["output"]) >= len(STORED_NODES[name]["outputs"])


def input_names(inputs: dict[str, Any]) -> Iterator[str]:
    """The names of a node's inputs, with those that newer versions show for one choice of a combo alone."""
    for need in ("required", "optional"):
        for name, spec in inputs.get(need, {}).items():
            yield name
            choices = spec[1].get("options", []) if len(spec) > 1 else []
            for choice in choices:
                if isinstance(choice, dict):
                    yield from input_names(choice["inputs"])


@pytest.fixture(scope="module")
def inputs_with_a_new_option(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The inputs of Pusa Train LoRA in a copy of the pack where one line in config.py adds an option to the first."""
    base = tmp_path_factory.mktemp("new_option") / "base"
    make_base(base)
    pack = base / "custom_nodes" / PACK_NAME
    if pack.is_symlink():
        pack.unlink()
    else:
        shutil.rmtree(pack)
    shutil.copytree(PACK, pack, ignore=shutil.ignore_patterns(".*", "tests", "benchmarks", "docs", "workflows"))
    config = pack / "pusa_core" / "training" / "config.py"
    place = len(STORED_NODES["PusaTrainLora"]["inputs"])
    line = f'    brand_new: int = option("of nothing", default=3, ge=1, node=NodeInput({place}, basic=True, max=9))\n'
    source = config.read_text(encoding="utf-8").replace("class TrainOptions:\n", f"class TrainOptions:\n{line}")
    config.write_text(source, encoding="utf-8")
    with running_server(comfyui, base) as url:
        return list_pack(ComfyClient(url).get_json("/object_info"))["PusaTrainLora"]["inputs"]


def test_a_new_option_of_the_trainer_lands_behind_every_published_input(inputs_with_a_new_option: list[Any]) -> None:
    *before, last = inputs_with_a_new_option
    assert before == STORED_NODES["PusaTrainLora"]["inputs"]
    assert last == ["optional", "brand_new", "INT", {"default": 3, "min": 1, "max": 9, "step": 1}]


@pytest.mark.parametrize("title", ["Pusa - Train a LoRA", "Pusa demo - Train a LoRA"])
def test_a_stored_graph_keeps_its_values_when_an_option_is_new(inputs_with_a_new_option: list[Any], title: str) -> None:
    page = json.loads((PACK / "workflows" / f"{title}.json").read_text())
    api = json.loads((PACK / "workflows" / "api" / f"{API_NAMES[title]}.json").read_text())
    nodes = [node for inner in page["definitions"]["subgraphs"] for node in inner["nodes"]]
    stored = next(node["widgets_values"] for node in nodes if node["type"] == "PusaTrainLora")
    meant = next(node["inputs"] for node in api.values() if node["class_type"] == "PusaTrainLora")
    widgets = [key for _, key, kind, _ in inputs_with_a_new_option if kind in WIDGETS]
    loaded = dict(zip(widgets, stored, strict=False))  # as the page does, by place
    typed = {key: value for key, value in meant.items() if not isinstance(value, list)}
    assert {key: loaded[key] for key in typed} == typed
    assert "brand_new" not in loaded


def test_demo_models_are_listed(comfy: ComfyClient) -> None:
    for kind, name in (
        ("diffusion_models", "pusa_demo_wan_t2v.safetensors"),
        ("loras", "pusa_demo_lora.safetensors"),
        ("vae", "pusa_demo_vae.safetensors"),
    ):
        assert name in comfy.get_json(f"/models/{kind}")


def test_the_texts_that_are_translated_are_those_of_the_nodes(comfy: ComfyClient) -> None:
    texts = english_texts(comfy.get_json("/object_info"))
    assert texts == json.loads(ENGLISH.read_text(encoding="utf-8")), "run python -m tools.translate --english"


@pytest.mark.parametrize("language", LANGUAGES)
def test_comfyui_serves_the_translations(comfy: ComfyClient, language: str) -> None:
    served = comfy.get_json("/i18n")[language]
    for name in ("nodeDefs", "nodeCategories"):
        assert served[name].items() >= translations(language)[name].items()


def translations(language: str) -> dict[str, Any]:
    texts, main, nodes = documents(), *(f"locales/{language}/{name}.json" for name in ("main", "nodeDefs"))
    return {"nodeDefs": json.loads(texts[nodes]), **json.loads(texts[main])}


def test_blueprints_are_offered_by_the_search(comfy: ComfyClient) -> None:
    if "ComfySwitchNode" not in comfy.get_json("/object_info"):
        pytest.skip("this ComfyUI has no blueprints")
    listed = comfy.get_json("/global_subgraphs")
    names = {entry["name"]: key for key, entry in listed.items() if entry["name"].startswith("Pusa - ")}
    assert sorted(names) == sorted(path.stem for path in (PACK / "subgraphs").glob("*.json"))
    stored = json.loads(comfy.get_json(f"/global_subgraphs/{names['Pusa - Image to video']}")["data"])
    assert stored == json.loads((PACK / "subgraphs" / "Pusa - Image to video.json").read_text())
