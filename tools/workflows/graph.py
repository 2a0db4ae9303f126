"""A graph of ComfyUI nodes, in both of its formats: the page's own, with places, and that of ``POST /prompt``."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Json = dict[str, Any]


class Slot(NamedTuple):
    """An output of a node, to connect an input to."""

    node: int
    output: int
    kind: str


class Input(NamedTuple):
    name: str
    kind: str
    optional: bool = False


@dataclass(frozen=True)
class NodeType:
    """What the page must know of a node type. A widget is an input whose kind is in ``WIDGETS``."""

    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, str], ...]
    size: tuple[int, int]


WIDGETS = ("INT", "FLOAT", "STRING", "COMBO", "BOOLEAN")
UNUSED = {"COMBO": "none"}  # what a widget holds whose value comes from a link; "" in others
SEEDS = ("seed",)  # the page adds a widget after these, for what happens to the seed after a run


def _type(inputs: str, outputs: str, width: int, height: int) -> NodeType:
    """``"name:KIND name:KIND?"``, a question mark for an optional one; outputs alike."""
    split = [entry.split(":") for entry in inputs.split()]
    names = tuple(Input(name, kind.rstrip("?"), kind.endswith("?")) for name, kind in split)
    ends = tuple((name, kind) for name, kind in (entry.split(":") for entry in outputs.split()))
    return NodeType(names, ends, (width, height))


TYPES = {
    "PusaLoad": _type(
        "model_name:COMBO lora_name:COMBO lora_strength:FLOAT weight_dtype:COMBO?",
        "model:MODEL report:STRING",
        360,
        180,
    ),
    "LoraLoaderModelOnly": _type("model:MODEL lora_name:COMBO strength_model:FLOAT", "MODEL:MODEL", 360, 110),
    "PusaDemoLoader": _type("", "clip:CLIP vae:VAE", 340, 60),
    "CLIPLoader": _type("clip_name:COMBO type:COMBO device:COMBO?", "CLIP:CLIP", 360, 130),
    "VAELoader": _type("vae_name:COMBO", "VAE:VAE", 360, 80),
    "PusaDemoImage": _type("seed:INT", "image:IMAGE prompt:STRING", 340, 130),
    "PusaDemoClip": _type("seed:INT first:INT length:INT", "image:IMAGE prompt:STRING", 340, 170),
    "PusaDemoDataset": _type("first_scene:INT clips:INT", "dataset:STRING", 340, 110),
    "PusaTrainLora": _type(
        "dataset:STRING model_name:COMBO vae_name:COMBO text_encoder:COMBO steps:INT rank:INT learning_rate:FLOAT "
        "output_name:STRING width:INT? height:INT? frames:INT? fps:FLOAT? batch:INT? accumulate:INT? alpha:FLOAT? "
        "dropout:FLOAT? warmup:INT? schedule:COMBO? optimizer:COMBO? weight_decay:FLOAT? caption_dropout:FLOAT? "
        "p_async:FLOAT? shift:FLOAT? weighting:COMBO? ema:FLOAT? precision:COMBO? gradient_checkpointing:BOOLEAN? "
        "offload_checkpoints:BOOLEAN? offload_weights:BOOLEAN? training_seed:INT? validation:FLOAT? "
        "validate_every:INT? save_every:INT? sample_every:INT? sample_prompt:STRING? init_lora:COMBO? "
        "sample_image:IMAGE?",
        "lora_name:* loss:IMAGE summary:STRING",
        400,
        1300,
    ),
    "LoadImage": _type("image:COMBO", "IMAGE:IMAGE MASK:MASK", 300, 330),
    "LoadVideo": _type("file:COMBO", "VIDEO:VIDEO", 300, 330),
    "GetVideoComponents": _type("video:VIDEO", "images:IMAGE audio:AUDIO fps:FLOAT", 240, 110),
    "ImageFromBatch": _type("image:IMAGE batch_index:INT length:INT", "IMAGE:IMAGE", 300, 110),
    "ImageScale": _type("image:IMAGE upscale_method:COMBO width:INT height:INT crop:COMBO", "IMAGE:IMAGE", 300, 170),
    "CLIPTextEncode": _type("text:STRING clip:CLIP", "CONDITIONING:CONDITIONING", 340, 140),
    "EmptyHunyuanLatentVideo": _type("width:INT height:INT length:INT batch_size:INT", "LATENT:LATENT", 320, 160),
    "PusaEncodeKeyframes": _type(
        "vae:VAE image:IMAGE position:INT length:INT latent:LATENT? position_counts:COMBO?", "LATENT:LATENT", 340, 200
    ),
    "PusaFrameMask": _type("latent:LATENT noise_levels:STRING", "LATENT:LATENT timeline:IMAGE", 440, 400),
    "PusaSampler": _type(
        "model:MODEL positive:CONDITIONING negative:CONDITIONING latent:LATENT seed:INT steps:INT cfg:FLOAT "
        "shift:FLOAT model_low:MODEL? switch:FLOAT?",
        "LATENT:LATENT",
        320,
        420,
    ),
    "VAEDecode": _type("samples:LATENT vae:VAE", "IMAGE:IMAGE", 220, 60),
    "CreateVideo": _type("images:IMAGE fps:FLOAT audio:AUDIO?", "VIDEO:VIDEO", 220, 90),
    "SaveVideo": _type("video:VIDEO filename_prefix:STRING format:COMBO codec:COMBO", "", 360, 420),
}
"""Inputs in the order in which the page shows them."""


@dataclass
class Node:
    kind: str
    column: int
    values: Json
    title: str | None
    properties: Json


@dataclass
class Graph:
    """Nodes in the order in which they were added; their numbers start at 1."""

    name: str
    nodes: list[Node] = field(default_factory=list)

    def add(
        self, kind: str, column: int, title: str | None = None, files: list[Json] | None = None, **values: Any
    ) -> int:
        """A node in a column of the page, with values and slots for its inputs; its number."""
        known = {entry.name for entry in TYPES[kind].inputs}
        if unknown := values.keys() - known:
            raise ValueError(f"{kind} has no input {sorted(unknown)}; it has {sorted(known)}")
        properties = {"Node name for S&R": kind} | ({"models": files} if files else {})
        self.nodes.append(Node(kind, column, values, title, properties))
        return len(self.nodes)

    def slot(self, number: int, output: int = 0) -> Slot:
        return Slot(number, output, TYPES[self.nodes[number - 1].kind].outputs[output][1])

    def api(self) -> Json:
        """The graph as ``POST /prompt`` takes it."""
        prompt = {}
        for number, node in enumerate(self.nodes, 1):
            order = [entry.name for entry in TYPES[node.kind].inputs if entry.name in node.values]
            inputs = {name: _link(node.values[name]) for name in order}
            prompt[str(number)] = {"class_type": node.kind, "inputs": inputs} | _meta(node)
        return prompt

    def page(self, note: str) -> Json:
        """The graph as the page saves it, with a note beside it."""
        links: list[list[Any]] = []
        drawn = [self._draw(number, node, links) for number, node in enumerate(self.nodes, 1)]
        _place(drawn, [node.column for node in self.nodes])
        drawn.append(_note(len(drawn) + 1, note))
        for link in links:
            output = drawn[link[1] - 1]["outputs"][link[2]]
            output["links"] = [*(output["links"] or []), link[0]]
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"pusa/{self.name}")),
            "revision": 0,
            "last_node_id": len(drawn),
            "last_link_id": len(links),
            "nodes": drawn,
            "links": links,
            "groups": [],
            "config": {},
            "extra": {"ds": {"scale": 0.65, "offset": [60, 540]}},
            "version": 0.4,
        }

    def _draw(self, number: int, node: Node, links: list[list[Any]]) -> Json:
        inputs, widgets = [], []
        for index, entry in enumerate(TYPES[node.kind].inputs):
            value, drawn = node.values.get(entry.name), {"name": entry.name, "type": entry.kind, "link": None}
            if isinstance(value, Slot):
                links.append([len(links) + 1, value.node, value.output, number, index, value.kind])
                drawn["link"] = len(links)
            if entry.kind in WIDGETS:
                drawn["widget"] = {"name": entry.name}
                widgets.append(UNUSED.get(entry.kind, "") if isinstance(value, Slot) else value)
                widgets += ["fixed"] if entry.name in SEEDS else []
            inputs.append(drawn | ({"shape": 7} if entry.optional else {}))
        outputs = [{"name": name, "type": kind, "links": None} for name, kind in TYPES[node.kind].outputs]
        shown = {"id": number, "type": node.kind, "pos": [0, 0], "size": list(TYPES[node.kind].size), "flags": {}}
        shown |= {"order": number - 1, "mode": 0, "inputs": inputs, "outputs": outputs}
        shown |= {"title": node.title} if node.title else {}
        return shown | {"properties": node.properties, "widgets_values": widgets}


def _link(value: Any) -> Any:
    return [str(value.node), value.output] if isinstance(value, Slot) else value


def _meta(node: Node) -> Json:
    return {"_meta": {"title": node.title or node.kind}}


def _place(drawn: list[Json], columns: list[int]) -> None:
    """Columns from left to right, as wide as their widest node; the nodes of a column below each other."""
    left = 40
    for column in sorted(set(columns)):
        members = [node for node, own in zip(drawn, columns, strict=True) if own == column]
        top = 60
        for node in members:
            node["pos"] = [left, top]
            top += node["size"][1] + 60
        left += max(node["size"][0] for node in members) + 60


def _note(number: int, text: str) -> Json:
    return {
        "id": number,
        "type": "MarkdownNote",
        "pos": [40, -480],
        "size": [1000, 460],
        "flags": {},
        "order": number - 1,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "What this does",
        "properties": {},
        "widgets_values": [text],
    }


def dump(document: Json) -> str:
    return json.dumps(document, indent=2) + "\n"
