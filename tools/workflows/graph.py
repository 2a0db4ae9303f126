"""A graph of ComfyUI nodes in both formats: the page's own, with positions, and that of ``POST /prompt``."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .node_types import read_node_types

Json = dict[str, Any]


class Slot(NamedTuple):
    """An output of a node that inputs can be connected to."""

    node: int
    output: int
    kind: str


NODE_TYPES = read_node_types()
SIZES = {
    "PusaLoad": (360, 180),
    "LoraLoaderModelOnly": (360, 110),
    "PusaDemoLoader": (340, 60),
    "CLIPLoader": (360, 130),
    "VAELoader": (360, 80),
    "PusaDemoImage": (340, 130),
    "PusaDemoClip": (340, 170),
    "PusaDemoDataset": (340, 110),
    "PusaTrainLora": (400, 1300),
    "LoadImage": (300, 330),
    "LoadVideo": (300, 330),
    "GetVideoComponents": (240, 110),
    "ImageFromBatch": (300, 110),
    "ImageScale": (300, 170),
    "CLIPTextEncode": (340, 140),
    "EmptyHunyuanLatentVideo": (320, 160),
    "PusaEncodeKeyframes": (340, 200),
    "PusaFrameMask": (440, 400),
    "PusaSampler": (320, 420),
    "VAEDecode": (220, 60),
    "CreateVideo": (220, 90),
    "SaveVideo": (360, 420),
}
"""Width and height of each node type, including room for the image or video that it shows."""


@dataclass
class Node:
    kind: str
    column: int
    values: Json
    title: str | None
    properties: Json


@dataclass
class Graph:
    """Nodes in insertion order, numbered from 1."""

    name: str
    nodes: list[Node] = field(default_factory=list)

    def add(
        self, kind: str, column: int, title: str | None = None, files: list[Json] | None = None, **values: Any
    ) -> int:
        """Add a node to a column of the page and return its number. Widgets not in ``values`` get their default."""
        known = {entry.name: entry for entry in NODE_TYPES[kind].inputs}
        if unknown := values.keys() - known.keys():
            raise ValueError(f"{kind} has no input {sorted(unknown)}; it has {sorted(known)}")
        for name, entry in known.items():
            if entry.is_widget and values.setdefault(name, entry.default) is None:
                raise ValueError(f"{kind} is given no {name}, which has no default; give it one")
        properties = {"Node name for S&R": kind} | ({"models": files} if files else {})
        self.nodes.append(Node(kind, column, values, title, properties))
        return len(self.nodes)

    def slot(self, number: int, output: int = 0) -> Slot:
        return Slot(number, output, NODE_TYPES[self.nodes[number - 1].kind].outputs[output].kind)

    def api(self) -> Json:
        """The graph in the format of ``POST /prompt``."""
        prompt = {}
        for number, node in enumerate(self.nodes, 1):
            order = [entry.name for entry in NODE_TYPES[node.kind].inputs if entry.name in node.values]
            inputs = {name: _link(node.values[name]) for name in order}
            prompt[str(number)] = {"class_type": node.kind, "inputs": inputs} | _meta(node)
        return prompt

    def page(self, note: str) -> Json:
        """The graph in the page's own format, with a note."""
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
        inputs: list[Json] = []
        widgets: list[Any] = []
        for index, entry in enumerate(NODE_TYPES[node.kind].inputs):
            value = node.values.get(entry.name)
            drawn: Json = {"name": entry.name, "type": entry.kind, "link": None}
            if isinstance(value, Slot):
                links.append([len(links) + 1, value.node, value.output, number, index, value.kind])
                drawn["link"] = len(links)
            if entry.is_widget:
                drawn["widget"] = {"name": entry.name}
                widgets.append(entry.default if isinstance(value, Slot) else value)
                widgets += ["fixed"] if entry.has_control else []
            inputs.append(drawn | ({"shape": 7} if entry.optional else {}))
        outputs = [{"name": end.name, "type": end.kind, "links": None} for end in NODE_TYPES[node.kind].outputs]
        shown = {"id": number, "type": node.kind, "pos": [0, 0], "size": list(SIZES[node.kind]), "flags": {}}
        shown |= {"order": number - 1, "mode": 0, "inputs": inputs, "outputs": outputs}
        shown |= {"title": node.title} if node.title else {}
        return shown | {"properties": node.properties, "widgets_values": widgets}


def _link(value: Any) -> Any:
    return [str(value.node), value.output] if isinstance(value, Slot) else value


def _meta(node: Node) -> Json:
    return {"_meta": {"title": node.title or node.kind}}


def _place(drawn: list[Json], columns: list[int]) -> None:
    """Lay the nodes out in columns from left to right, each as wide as its widest node."""
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
        "title": "About this workflow",
        "properties": {},
        "widgets_values": [text],
    }


def dump(document: Json) -> str:
    return json.dumps(document, indent=2) + "\n"
