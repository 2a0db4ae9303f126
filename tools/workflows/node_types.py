"""The node types in ``nodes.json``, which ``listing.py`` generates."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

STORED = Path(__file__).with_name("nodes.json")
NEED = {"switch": "model_low", "mask_level": "mask"}
"""Inputs that mean something only along with another one."""
WIDGETS = ("INT", "FLOAT", "STRING", "COMBO", "BOOLEAN")


class Input(NamedTuple):
    name: str
    kind: str
    optional: bool
    settings: dict[str, Any]  # default, range, options ... as reported by the server

    @property
    def is_widget(self) -> bool:
        """Whether the input has a widget, as opposed to a connection only."""
        return self.kind in WIDGETS

    @property
    def default(self) -> Any:
        """Initial value of the widget; ``None`` if it depends on files."""
        first = next(iter(self.settings.get("options", [])), None)
        return self.settings.get("default", "" if self.kind == "STRING" else first)

    @property
    def has_control(self) -> bool:
        """Whether the page adds a "control after generate" widget, as for seeds."""
        return bool(self.settings.get("control_after_generate"))


class Output(NamedTuple):
    kind: str
    name: str


@dataclass(frozen=True)
class NodeType:
    """Inputs and outputs in display order."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]


def read_node_types() -> dict[str, NodeType]:
    """The stored node types by id."""
    return {name: _node_type(node) for name, node in json.loads(STORED.read_text(encoding="utf-8")).items()}


def _node_type(node: dict[str, Any]) -> NodeType:
    inputs = tuple(Input(name, kind, need == "optional", settings) for need, name, kind, settings in node["inputs"])
    return NodeType(inputs, tuple(Output(*output) for output in node["outputs"]))


NEWER = {
    "ComfySwitchNode": NodeType(
        (
            Input("switch", "BOOLEAN", False, {"default": False}),
            Input("on_false", "*", False, {}),
            Input("on_true", "*", False, {}),
        ),
        (Output("*", "output"),),
    ),
    "ComfyMathExpression": NodeType(
        (Input("expression", "STRING", False, {"multiline": True}), Input("values.a", "FLOAT,INT,BOOLEAN", False, {})),
        (Output("FLOAT", "FLOAT"), Output("INT", "INT"), Output("BOOLEAN", "BOOL")),
    ),
}
"""Core nodes that the oldest supported ComfyUI lacks, with as many inputs as the graphs connect."""
