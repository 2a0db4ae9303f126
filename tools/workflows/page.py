"""Draws a graph in the format that ComfyUI's page opens: subgraphs, links, groups and a note."""

import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from . import layout
from .drawing import draw_input, draw_node, draw_note, mark_links, slots_of
from .graph import NODE_TYPES, Graph, Json, Knob, Slot
from .node_types import NEED, Input

INPUT, OUTPUT = -10, -20  # the ids of a subgraph's own ends
FIRST = ("prompt", "negative", "noise_levels", "width", "height", "seconds", "frames", "seed", "turbo", "steps", "cfg")
"""The knobs that come first, in this order; the others follow in the order of their declaration."""
Target = tuple[int, int]  # node, index of its input


@dataclass
class Port:
    """An input of a subgraph: its value outside and where it goes inside."""

    name: str
    label: str
    entry: Input
    value: Any
    targets: list[Target] = field(default_factory=list)


@dataclass
class Canvas:
    """The page itself (no name), or the inside of a subgraph."""

    name: str
    number: int = 0
    column: int = 0
    ports: list[Port] = field(default_factory=list)
    outputs: list[Slot] = field(default_factory=list)
    nodes: list[Json] = field(default_factory=list)
    links: list[list[Any]] = field(default_factory=list)  # [id, from, output, to, input, type]

    def link(self, start: Target, end: Target, kind: str) -> None:
        self.links.append([len(self.links) + 1, *start, *end, kind])


class Page:
    """The drawing of one graph. Nodes keep their numbers; subgraphs get those after the last."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.root = Canvas("")
        self.canvases = {"": self.root}
        for node in graph.nodes:
            name = node.place.subgraph
            if name not in self.canvases:
                number = len(graph.nodes) + len(self.canvases)
                self.canvases[name] = Canvas(name, number, node.place.column)
        self._find_ports()
        self._connect()
        self._draw()

    @property
    def subgraphs(self) -> list[Canvas]:
        return list(self.canvases.values())[1:]

    def _canvas_of(self, number: int) -> Canvas:
        return self.canvases[self.graph.nodes[number - 1].place.subgraph]

    def _find_ports(self) -> None:
        """The inputs of each subgraph, first those that are only connected, then its knobs; and its outputs."""
        by_target = {target: knob for knob in self.graph.knobs for target in knob.targets}
        found: dict[tuple[str, Slot | Knob], Port] = {}
        for number, node in enumerate(self.graph.nodes, 1):
            canvas = self._canvas_of(number)
            for index, entry in enumerate(slots_of(node.kind)):
                value, knob = node.values.get(entry.name), by_target.get((number, entry.name))
                came = value if isinstance(value, Slot) and self._canvas_of(value.node) is not canvas else None
                if came:
                    self._leave(came)
                cause = knob or came
                if canvas is self.root or not cause:
                    continue
                key = (canvas.name, cause)
                if key not in found:
                    name = knob.name if knob else _free_name(entry.name, [port.name for port in canvas.ports])
                    label = cause.label if isinstance(cause, Knob) else self._label(cause, entry.name)
                    found[key] = Port(name, label, entry, value)
                    canvas.ports.append(found[key])
                found[key].targets.append((number, index))
        order = {knob.name: (_rank(knob.name), place) for place, knob in enumerate(self.graph.knobs)}
        for canvas in self.subgraphs:
            canvas.ports.sort(key=lambda port: order.get(port.name, (-1, 0)))

    def _leave(self, slot: Slot) -> None:
        outputs = self._canvas_of(slot.node).outputs
        if slot not in outputs:
            outputs.append(slot)

    def _label(self, slot: Slot, name: str) -> str:
        return (self.graph.nodes[slot.node - 1].title or name).lower() if slot.kind == "IMAGE" else name

    def _source(self, slot: Slot) -> Target:
        """Where the page shows an output: at its node, or at the subgraph that holds it."""
        canvas = self._canvas_of(slot.node)
        return (slot.node, slot.output) if canvas is self.root else (canvas.number, canvas.outputs.index(slot))

    def _connect(self) -> None:
        for canvas in self.subgraphs:
            for index, port in enumerate(canvas.ports):
                for target in port.targets:
                    canvas.link((INPUT, index), target, port.entry.kind)
                if isinstance(port.value, Slot):
                    self.root.link(self._source(port.value), (canvas.number, index), port.value.kind)
            for index, slot in enumerate(canvas.outputs):
                canvas.link((slot.node, slot.output), (OUTPUT, index), slot.kind)
        for number, node in enumerate(self.graph.nodes, 1):
            canvas = self._canvas_of(number)
            for index, entry in enumerate(slots_of(node.kind)):
                value = node.values.get(entry.name)
                if isinstance(value, Slot) and self._canvas_of(value.node) is canvas:
                    canvas.link((value.node, value.output), (number, index), value.kind)
                elif isinstance(value, Slot) and canvas is self.root:
                    self.root.link(self._source(value), (number, index), value.kind)

    def _draw(self) -> None:
        for number, node in enumerate(self.graph.nodes, 1):
            known = NODE_TYPES[node.kind]
            widgets: list[Any] = []
            for entry in known.inputs:
                value = node.values.get(entry.name)
                if entry.is_widget:
                    widgets.append(entry.default if isinstance(value, Slot) else value)
                    widgets += ["fixed"] if entry.has_control else []
            inputs = [draw_input(entry.name, entry) for entry in slots_of(node.kind)]
            outputs = [{"name": end.name, "type": end.kind, "links": None} for end in known.outputs]
            size = list(layout.SIZES[node.kind])
            drawn = draw_node(number, node.kind, size, inputs, outputs, widgets, node.properties)
            drawn |= {"title": node.title} if node.title else {}
            self._canvas_of(number).nodes.append(drawn)
        for canvas in self.subgraphs:
            inputs = [draw_input(port.name, port.entry) | {"label": port.label} for port in canvas.ports]
            ends = [NODE_TYPES[self.graph.nodes[s.node - 1].kind].outputs[s.output] for s in canvas.outputs]
            outputs = [{"name": end.name, "type": end.kind, "links": None} for end in ends]
            long = [bool(port.entry.settings.get("multiline")) for port in canvas.ports if port.entry.is_widget]
            size = layout.subgraph_size(len(canvas.ports) - len(long), long, len(outputs))
            drawn = draw_node(canvas.number, self.id_of(canvas), size, inputs, outputs, [], {})
            self.root.nodes.append(drawn | {"title": canvas.name})
        for canvas in self.canvases.values():
            mark_links(canvas.nodes, canvas.links)

    def id_of(self, canvas: Canvas) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"pusa/{self.graph.name}/{canvas.name}".rstrip("/")))

    def definition(self, canvas: Canvas) -> Json:
        """A subgraph as the page stores it."""
        ends = self._find(canvas.number)["outputs"]
        left, right = layout.arrange(canvas.nodes, canvas.links)
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        return {
            "id": self.id_of(canvas),
            "version": 1,
            "state": {
                "lastGroupId": 0,
                "lastNodeId": len(self.graph.nodes) + len(self.subgraphs),
                "lastLinkId": len(canvas.links),
                "lastRerouteId": 0,
            },
            "revision": 0,
            "config": {},
            "name": canvas.name,
            "inputNode": {"id": INPUT, "bounding": left},
            "outputNode": {"id": OUTPUT, "bounding": right},
            "inputs": [
                self._end(canvas, f"in/{port.name}", port.name, port.entry.kind, INPUT, index) | {"label": port.label}
                for index, port in enumerate(canvas.ports)
            ],
            "outputs": [
                self._end(canvas, f"out/{index}", end["name"], end["type"], OUTPUT, index)
                for index, end in enumerate(ends)
            ],
            "widgets": [],
            "nodes": canvas.nodes,
            "groups": [],
            "links": [dict(zip(keys, link, strict=True)) for link in canvas.links],
            "extra": {},
        }

    def _end(self, canvas: Canvas, key: str, name: str, kind: str, end: int, index: int) -> Json:
        place = 1 if end == INPUT else 3
        links = [link[0] for link in canvas.links if link[place : place + 2] == [end, index]]
        return {"id": str(uuid.uuid5(uuid.UUID(self.id_of(canvas)), key)), "name": name, "type": kind, "linkIds": links}

    def _find(self, number: int) -> Json:
        return next(node for node in self.root.nodes if node["id"] == number)

    def document(self, note: str) -> Json:
        """The whole file."""
        subgraphs = [self.definition(canvas) for canvas in self.subgraphs]
        columns: dict[int, list[Json]] = defaultdict(list)
        depth = layout.depths(self.root.nodes, self.root.links)
        for node in self.root.nodes:
            canvas = next((c for c in self.subgraphs if c.number == node["id"]), None)
            columns[canvas.column if canvas else self.graph.nodes[node["id"] - 1].place.column].append(node)
        last = len(self.graph.nodes) + len(self.subgraphs) + 1
        for nodes in columns.values():
            nodes.sort(key=lambda node: depth[node["id"]])
        columns.setdefault(1, [])
        layout.relieve(columns)
        layout.add_note(draw_note(last, note), columns)
        groups = layout.place(columns, self.graph.columns)
        return {
            "id": self.id_of(self.root),
            "revision": 0,
            "last_node_id": last,
            "last_link_id": len(self.root.links),
            "nodes": [node for column in sorted(columns) for node in columns[column]],
            "links": self.root.links,
            "groups": groups,
            "definitions": {"subgraphs": subgraphs},
            "config": {},
            "extra": {"ds": {"scale": 1, "offset": list(layout.OFFSET)}, "linearData": self.app()},
            "version": 0.4,
        }

    def app(self) -> Json:
        """What app mode shows: the pictures and texts on the canvas, the knobs, and the results."""
        inputs, outputs = [], []
        for node in self.root.nodes:
            linked = {entry["widget"]["name"] for entry in node["inputs"] if "widget" in entry and entry["link"]}
            names = [entry["widget"]["name"] for entry in node["inputs"] if "widget" in entry]
            if node["type"] in ("SaveVideo", "PreviewImage"):
                outputs.append(str(node["id"]))
            else:
                connected = {entry["name"] for entry in node["inputs"] if entry["link"]}
                shown = [name for name in names if name not in linked and NEED.get(name) in (None, *connected)]
                inputs += [[str(node["id"]), name] for name in shown]
        return {"inputs": inputs, "outputs": outputs}


def _rank(knob: str) -> int:
    return FIRST.index(knob) if knob in FIRST else len(FIRST)


def _free_name(name: str, taken: list[str]) -> str:
    names = [name, *(f"{name}_{number}" for number in range(2, len(taken) + 2))]
    return next(free for free in names if free not in taken)
