"""A graph of ComfyUI nodes, and its form for ``POST /prompt``; ``page.py`` draws the form that the page opens."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .node_types import NEWER, read_node_types

Json = dict[str, Any]
NODE_TYPES = read_node_types() | NEWER


class Slot(NamedTuple):
    """An output of a node that inputs can be connected to."""

    node: int
    output: int
    kind: str


@dataclass(frozen=True)
class Place:
    """Where the page shows a node: in a column, from 1 on the left, or in a subgraph that is shown there."""

    column: int
    subgraph: str = ""


@dataclass
class Node:
    kind: str
    place: Place
    values: Json
    title: str | None
    properties: Json


@dataclass(frozen=True)
class Knob:
    """An input of a subgraph that sets widgets inside it: (node, input), all of one value. ``name`` is an API."""

    name: str
    label: str
    targets: tuple[tuple[int, str], ...]


@dataclass
class Graph:
    """Nodes in insertion order, numbered from 1."""

    name: str
    nodes: list[Node] = field(default_factory=list)
    knobs: list[Knob] = field(default_factory=list)
    columns: dict[int, str] = field(default_factory=dict)  # their titles
    place: Place = Place(1)

    @contextmanager
    def at(self, place: Place) -> Iterator[None]:
        """Show the nodes that are added in this context at ``place``."""
        before, self.place = self.place, place
        yield
        self.place = before

    def add(self, kind: str, title: str | None = None, files: list[Json] | None = None, **values: Any) -> int:
        """Add a node and return its number. Widgets not in ``values`` get their default."""
        known = {entry.name: entry for entry in NODE_TYPES[kind].inputs}
        if unknown := values.keys() - known.keys():
            raise ValueError(f"{kind} has no input {sorted(unknown)}; it has {sorted(known)}")
        for name, entry in known.items():
            if entry.is_widget and values.setdefault(name, entry.default) is None:
                raise ValueError(f"{kind} is given no {name}, which has no default; give it one")
        properties = {"Node name for S&R": kind} | ({"models": files} if files else {})
        self.nodes.append(Node(kind, self.place, values, title, properties))
        return len(self.nodes)

    def find(self, kind: str, values: Json) -> int | None:
        """A node of that kind that has these values already."""
        for number, node in enumerate(self.nodes, 1):
            if node.kind == kind and all(node.values[name] == value for name, value in values.items()):
                return number
        return None

    def source(self, slot: Slot, kind: str, name: str) -> Slot:
        """What the input ``name`` of the slot's node is connected to, if it is of that kind; else the slot."""
        node = self.nodes[slot.node - 1]
        return node.values[name] if node.kind == kind else slot

    def slot(self, number: int, output: int = 0) -> Slot:
        return Slot(number, output, NODE_TYPES[self.nodes[number - 1].kind].outputs[output].kind)

    def knob(self, name: str, label: str, *targets: tuple[int, str]) -> None:
        """Show the inputs ``targets`` as one widget of the subgraph that they are in."""
        found = [(self.nodes[node - 1].place, self.nodes[node - 1].values[key]) for node, key in targets]
        if any(pair != found[0] for pair in found) or not found[0][0].subgraph:
            raise ValueError(f"{name} needs inputs of one subgraph and one value; they are {found}")
        self.knobs.append(Knob(name, label, targets))

    def api(self) -> Json:
        """The graph in the format of ``POST /prompt``."""
        prompt = {}
        for number, node in enumerate(self.nodes, 1):
            order = [entry.name for entry in NODE_TYPES[node.kind].inputs if entry.name in node.values]
            inputs = {name: _link(node.values[name]) for name in order}
            prompt[str(number)] = {
                "class_type": node.kind,
                "inputs": inputs,
                "_meta": {"title": node.title or node.kind},
            }
        return prompt


def _link(value: Any) -> Any:
    return [str(value.node), value.output] if isinstance(value, Slot) else value


def dump(document: Json) -> str:
    return json.dumps(document, indent=2) + "\n"
