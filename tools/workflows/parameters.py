"""Which node and input of every workflow hold which value: ``workflows/api/parameters.json``.

Scripts set a graph's values by these names, so that they keep working when a graph is redrawn and its nodes get other
numbers. The table is read off the graphs themselves.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from .node_types import NEED

Graph = dict[str, dict[str, Any]]
Place = list[str]
"""A node's number and the name of one of its inputs."""

NAMES = {
    "PusaLoad": {"model_name": "model", "lora_name": "lora", "lora_strength": "lora_strength"},
    "UNETLoader": {"unet_name": "model"},
    "CLIPLoader": {"clip_name": "text_encoder"},
    "VAELoader": {"vae_name": "vae"},
    "PusaDemoImage": {"seed": "scene"},
    "PusaDemoClip": {"seed": "scene"},
    "PusaDemoDataset": {"first_scene": "first_scene", "clips": "clips"},
    "PusaTrainLora": {
        "dataset": "dataset",
        "output_name": "output_name",
        "steps": "training_steps",
        "rank": "rank",
        "learning_rate": "learning_rate",
        "sample_image": "sample_image",
    },
    "ImageFromBatch": {"batch_index": "clip_start"},
    "EmptyHunyuanLatentVideo": {"width": "width", "height": "height", "length": "length"},
    "ImageCrop": {name: f"crop_{name}" for name in ("width", "height", "x", "y")},
    "SolidMask": {"width": "mask_width", "height": "mask_height"},
    "MaskComposite": {"x": "mask_x", "y": "mask_y"},
    "ImagePadForOutpaint": {name: name for name in ("left", "top", "right", "bottom", "feathering")},
    "PusaFrameMask": {"noise_levels": "noise_levels", "mask_level": "mask_level"},
    "PusaSampler": {"seed": "seed", "steps": "steps", "cfg": "cfg", "shift": "shift", "switch": "switch"},
    "PusaExtendVideo": {
        "prompt": "prompt",
        "negative": "negative_prompt",
        **{name: name for name in ("seconds", "width", "height", "seed", "steps", "cfg", "shift", "switch")},
        **{name: name for name in ("scenes", "retakes", "until", "length", "fps")},
    },
    "KSampler": {"seed": "seed", "steps": "steps", "cfg": "cfg"},
    "CreateVideo": {"fps": "fps"},
    "SaveVideo": {"filename_prefix": "filename_prefix"},
}
"""The names of the inputs of a node type."""
FILES = {"LoadImage": "image", "LoadVideo": "file"}
LORA = {"lora_name": "lora", "strength_model": "lora_strength"}
TURBO_LORA = {"lora_name": "turbo_lora", "strength_model": "turbo_strength"}
PROMPTS = {"positive": "prompt", "negative": "negative_prompt"}


def table(graphs: dict[str, Graph]) -> dict[str, dict[str, Place]]:
    """The places of the values of every graph, by task and name."""
    return {task: parameters_of(graph) for task, graph in graphs.items()}


def parameters_file(graphs: dict[str, Graph]) -> str:
    """The contents of the file: JSON with a line for each value."""
    tasks = (
        f"{json.dumps(task)}: {{\n"
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(place)}" for name, place in places.items())
        + "\n }"
        for task, places in table(graphs).items()
    )
    return "{\n " + ",\n ".join(tasks) + "\n}\n"


def parameters_of(graph: Graph) -> dict[str, Place]:
    """The places of a graph's values by name. Further places of the same name are numbered: ``width``, ``width_2``."""
    places: dict[str, Place] = {}
    for name, place in _named(graph):
        if place in places.values():
            continue
        same = sum(re.fullmatch(rf"{name}(_\d+)?", known) is not None for known in places)
        places[f"{name}_{same + 1}" if same else name] = place
    return places


def _named(graph: Graph) -> Iterator[tuple[str, Place]]:
    for number, node in graph.items():
        kind, inputs = node["class_type"], node["inputs"]
        for key, name in PROMPTS.items():
            if isinstance(inputs.get(key), list):
                yield name, _source(graph, [inputs[key][0], "text"])
        if kind == "PusaEncodeKeyframes":
            yield _picture(graph, number)
            if "latent" not in inputs:
                yield "length", _source(graph, [number, "length"])
        if kind == "PusaExtendVideo":
            yield from _beginning(graph, number)
        if kind == "PusaFrameMask" and "mask" in inputs:
            source = graph[inputs["mask"][0]]["class_type"]
            yield "mask", [inputs["mask"][0], "image"] if source == "LoadImage" else [number, "mask"]
        for key, name in _names(kind, inputs).items():
            if key in inputs and NEED.get(key, key) in inputs:
                yield name, _source(graph, [number, key])


def _names(kind: str, inputs: dict[str, Any]) -> dict[str, str]:
    if kind == "LoraLoaderModelOnly":  # the same node loads both kinds
        return LORA if "pusa" in str(inputs["lora_name"]).lower() else TURBO_LORA
    return NAMES.get(kind, {})


def _source(graph: Graph, place: Place) -> Place:
    """Where a value is typed: in the node itself, or in a primitive that is linked to it."""
    value = graph[place[0]]["inputs"][place[1]]
    if isinstance(value, list) and graph[value[0]]["class_type"].startswith("Primitive"):
        return _source(graph, [value[0], "value"])
    return place


def _beginning(graph: Graph, number: str) -> Iterator[tuple[str, Place]]:
    """What a long video begins with: the file of a clip, or the link to its frames."""
    for key, kind in (("video", "LoadVideo"), ("image", "LoadImage")):
        if link := graph[number]["inputs"].get(key):
            loaded = graph[link[0]]["class_type"] == kind
            yield "clip", [link[0], FILES[kind]] if loaded else [number, key]


def _picture(graph: Graph, encoder: str) -> tuple[str, Place]:
    """The name and place of an encoder's picture or clip: its file, or, without one, the link to where it is made."""
    title = graph[encoder]["_meta"]["title"]
    link = graph[encoder]["inputs"]["image"]
    while isinstance(link, list):
        source = graph[link[0]]
        if file := FILES.get(source["class_type"]):
            return _slug(title), [link[0], file]
        link = source["inputs"].get("image") or source["inputs"].get("video")
    return _slug(title), [encoder, "image"]


def _slug(title: str) -> str:
    return re.sub(r"\W+", "_", title.lower()).strip("_")
