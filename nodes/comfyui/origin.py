"""What an input of a node was made from, as the graph says it: the same in every run and after a restart."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import folder_paths
from comfy_execution.graph_utils import is_link


def origin_of(graph: Any, node_id: str, inputs: Sequence[str]) -> str:
    """A digest of all nodes that the ``inputs`` of a node depend on, their values, and the model files these name.

    ``graph``: ComfyUI's ``DynamicPrompt``. Numbers of nodes do not count, so the same graph drawn anew is the same.
    """
    known: dict[str, str] = {}

    def of_value(value: Any) -> Any:
        if is_link(value):
            return [of_node(value[0]), value[1]]
        return [value, *_files(value)] if isinstance(value, str) else value

    def of_node(name: str) -> str:
        if name not in known:
            node = graph.get_node(name)
            known[name] = _digest({"class": node["class_type"], **_each(node["inputs"], of_value)})
        return known[name]

    own = graph.get_node(node_id)["inputs"]
    return _digest(_each({name: own[name] for name in inputs if name in own}, of_value))


def _each(values: Mapping[str, Any], of_value: Any) -> dict[str, Any]:
    return {f"input {name}": of_value(value) for name, value in values.items()}


def _files(text: str) -> list[tuple[int, int]]:
    """Size and time of the files of this name in ComfyUI's model folders: a LoRA may be trained anew."""
    if not text or "\n" in text or len(text) > 255:
        return []
    paths = (folder_paths.get_full_path(kind, text) for kind in sorted(folder_paths.folder_names_and_paths))
    found = sorted({path for path in paths if path is not None})
    return [(status.st_size, status.st_mtime_ns) for status in (Path(path).stat() for path in found)]


def _digest(about: Mapping[str, Any]) -> str:
    return sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()
