"""What a workflow file of the page computes: its subgraphs opened, as the page does before it posts a prompt."""

from typing import Any

Json = dict[str, Any]
INPUT, OUTPUT = -10, -20
NOTES = ("MarkdownNote", "Note")


class Canvas:
    """The page, or the inside of a subgraph that is a node of the page."""

    def __init__(self, nodes: list[Json], links: list[Any], outer: Json | None = None) -> None:
        self.nodes = {node["id"]: node for node in nodes}
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        as_dicts = (link if isinstance(link, dict) else dict(zip(keys, link, strict=True)) for link in links)
        self.links: dict[int, Json] = {link["id"]: link for link in as_dicts}
        self.outer = outer


class Opened:
    """The nodes of a file, those in subgraphs included. Node ids are unique in the file."""

    def __init__(self, document: Json) -> None:
        self.root = Canvas(document["nodes"], document["links"])
        known = {inner["id"]: inner for inner in document.get("definitions", {}).get("subgraphs", [])}
        self.inside = {
            node["id"]: Canvas(known[node["type"]]["nodes"], known[node["type"]]["links"], node)
            for node in document["nodes"]
            if node["type"] in known
        }

    def prompt(self) -> Json:
        """The nodes as in ``POST /prompt``."""
        return {
            str(node["id"]): {"class_type": node["type"], "inputs": self._inputs(canvas, node)}
            for canvas in (self.root, *self.inside.values())
            for node in canvas.nodes.values()
            if node["type"] not in NOTES and node["id"] not in self.inside
        }

    def _inputs(self, canvas: Canvas, node: Json) -> Json:
        values = iter(value for value in node.get("widgets_values", []) if value not in ("fixed", "randomize"))
        found = {}
        for entry in node["inputs"]:
            typed = next(values) if "widget" in entry else None
            if entry["link"] is not None:
                found[entry["name"]] = self._source(canvas, canvas.links[entry["link"]], typed)
            elif "widget" in entry:
                found[entry["name"]] = typed
        return found

    def _source(self, canvas: Canvas, link: Json, typed: Any) -> Any:
        """Where a link comes from, or what is typed at its end if that is a knob without a link."""
        if link["origin_id"] == INPUT:
            assert canvas.outer is not None
            entry = canvas.outer["inputs"][link["origin_slot"]]
            if entry["link"] is None:
                assert "widget" in entry, f"{entry['name']} of {canvas.outer['title']} is not connected"
                return typed
            return self._source(self.root, self.root.links[entry["link"]], None)
        if link["origin_id"] in self.inside:
            inner = self.inside[link["origin_id"]]
            ends = (OUTPUT, link["origin_slot"])
            (end,) = (e for e in inner.links.values() if (e["target_id"], e["target_slot"]) == ends)
            return self._source(inner, end, None)
        return [str(link["origin_id"]), link["origin_slot"]]


def computed(prompt: Json, output: str, *, turbo: bool = False) -> Any:
    """What the node ``output`` computes, whatever the numbers of the nodes: nested (type, inputs).

    Switches are resolved as ``turbo``, constants become values, and expressions of one value are computed.
    """

    def value(entry: Any) -> Any:
        if not isinstance(entry, list):
            return entry
        node = prompt[entry[0]]
        if node["class_type"] == "ComfySwitchNode":
            return value(node["inputs"]["on_true" if turbo else "on_false"])
        if node["class_type"] == "ComfyMathExpression":
            return eval(node["inputs"]["expression"], {"round": round, "a": value(node["inputs"]["values.a"])})
        if node["class_type"].startswith("Primitive"):
            return node["inputs"]["value"]
        return (computed(prompt, entry[0], turbo=turbo), entry[1])

    node = prompt[output]
    return node["class_type"], {name: value(entry) for name, entry in node["inputs"].items()}


def output_nodes(prompt: Json) -> list[str]:
    return [key for key, node in prompt.items() if node["class_type"] in ("SaveVideo", "PreviewImage")]
