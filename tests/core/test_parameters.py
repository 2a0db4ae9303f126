"""``workflows/api/parameters.json`` names where a script sets the values of a graph."""

import json

import pytest

from tests.support.workflows import API_WORKFLOWS
from tools.workflows.build import WORKFLOWS
from tools.workflows.parameters import parameters_of

PARAMETERS = json.loads((WORKFLOWS / "api" / "parameters.json").read_text())
GRAPHS = {path.stem: json.loads(path.read_text()) for path in API_WORKFLOWS}
ALWAYS = {"prompt", "negative_prompt", "seed", "steps", "cfg", "length", "fps", "filename_prefix", "model"}


def test_every_workflow_has_its_parameters():
    assert PARAMETERS.keys() == GRAPHS.keys()


@pytest.mark.parametrize("task", GRAPHS)
def test_every_name_leads_to_an_input_of_its_own(task):
    places = [(node, key) for node, key in PARAMETERS[task].values()]
    assert len(set(places)) == len(places)
    assert all(key in GRAPHS[task][node]["inputs"] for node, key in places)
    assert PARAMETERS[task].keys() >= ALWAYS


@pytest.mark.parametrize("task", GRAPHS)
def test_every_size_picture_and_model_file_of_a_graph_has_a_name(task):
    named = {(node, key) for node, key in PARAMETERS[task].values()}
    for number, node in GRAPHS[task].items():
        for key, value in node["inputs"].items():
            is_file = isinstance(value, str) and value.endswith((".safetensors", ".png", ".mp4"))
            if node["class_type"] != "PusaTrainLora" and (is_file or (key in ("width", "height", "seed") and value)):
                assert (number, key) in named or isinstance(value, list), (node["class_type"], key)


def encoder(image, title="First frame", **inputs):
    return {"class_type": "PusaEncodeKeyframes", "inputs": {"image": image, **inputs}, "_meta": {"title": title}}


def test_a_value_that_a_primitive_gives_is_set_there():
    graph = {
        "1": {"class_type": "PrimitiveInt", "inputs": {"value": 81}},
        "2:7": encoder(["3", 0], length=["1", 0]),
        "3": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "4": {"class_type": "EmptyHunyuanLatentVideo", "inputs": {"width": 64, "length": ["1", 0]}},
    }
    assert parameters_of(graph) == {"first_frame": ["3", "image"], "length": ["1", "value"], "width": ["4", "width"]}


def test_places_of_the_same_name_are_numbered_and_chained_keyframes_have_no_length():
    graph = {
        "1": {"class_type": "EmptyHunyuanLatentVideo", "inputs": {"width": 64}},
        "2": {"class_type": "EmptyHunyuanLatentVideo", "inputs": {"width": 64}},
        "3": encoder(["9", 0], length=81),
        "4": encoder(["9", 0], "Last frame", length=81, latent=["3", 0]),
        "9": {"class_type": "PusaDemoImage", "inputs": {"seed": 5}},
    }
    assert parameters_of(graph) == {
        "width": ["1", "width"],
        "width_2": ["2", "width"],
        "first_frame": ["3", "image"],
        "length": ["3", "length"],
        "last_frame": ["4", "image"],
        "scene": ["9", "seed"],
    }
