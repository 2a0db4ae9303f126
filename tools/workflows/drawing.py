"""Nodes as ComfyUI's page stores them."""

from typing import Any

from . import layout
from .graph import NODE_TYPES, Json
from .node_types import Input


def slots_of(kind: str) -> list[Input]:
    """The inputs of a node type as the page orders them: first those without a widget. Links count in this order."""
    return sorted(NODE_TYPES[kind].inputs, key=lambda entry: entry.is_widget)


def draw_input(name: str, entry: Input) -> Json:
    drawn: Json = {"name": name, "type": entry.kind, "link": None}
    drawn |= {"widget": {"name": name}} if entry.is_widget else {}
    return drawn | ({"shape": 7} if entry.optional else {})


def draw_node(
    number: int,
    kind: str,
    size: list[int],
    inputs: list[Json],
    outputs: list[Json],
    widgets: list[Any],
    properties: Json,
) -> Json:
    shown: Json = {"id": number, "type": kind, "pos": [0, 0], "size": size}
    shown |= {"flags": {}, "order": number - 1, "mode": 0, "inputs": inputs, "outputs": outputs}
    return shown | {"properties": properties} | ({"widgets_values": widgets} if widgets else {})


def mark_links(drawn: list[Json], links: list[list[Any]]) -> None:
    """Enter links at both of their ends."""
    nodes = {node["id"]: node for node in drawn}
    for number, start, output, end, index, _ in links:
        if start in nodes:
            ends = nodes[start]["outputs"][output]
            ends["links"] = [*(ends["links"] or []), number]
        if end in nodes:
            nodes[end]["inputs"][index]["link"] = number


def draw_note(number: int, text: str) -> Json:
    shown = draw_node(number, "MarkdownNote", list(layout.SIZES["MarkdownNote"]), [], [], [text], {})
    return shown | {"title": "What you need"}
