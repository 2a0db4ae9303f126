"""A page that looks on while ComfyUI runs a graph: what it is told over its websocket."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.patience import HANGS
from tools.comfy_client import ComfyClient, Graph


@dataclass
class Shown:
    """``texts`` on nodes; by node its ``outputs`` and, one after the other, the noise ``levels`` of its frames."""

    texts: list[str] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    levels: dict[str, list[list[float]]] = field(default_factory=dict)


def connect(comfy: ComfyClient, client: str) -> Any:
    """The websocket of the page with this id."""
    websocket = pytest.importorskip("websocket")
    return websocket.create_connection(f"{comfy.url.replace('http', 'ws')}/ws?clientId={client}", timeout=HANGS)


def show(comfy: ComfyClient, graph: Graph) -> Shown:
    """Queue a graph from a page, and return what the page is told until it ends."""
    client, shown = uuid.uuid4().hex, Shown()
    socket = connect(comfy, client)
    answer = comfy.post("/prompt", {"prompt": graph, "client_id": client})
    while True:
        message = socket.recv()
        if isinstance(message, bytes):
            if int.from_bytes(message[:4], "big") == 3:  # text on a node: length of its id, id, text
                shown.texts.append(message[8 + int.from_bytes(message[4:8], "big") :].decode())
            continue
        kind, data = (event := json.loads(message))["type"], event["data"]
        if kind == "executed":
            shown.outputs[data["node"]] = data["output"]
        elif kind == "pusa.noise_levels":
            shown.levels.setdefault(data["node"], []).append(data["levels"])
        elif kind == "execution_error":
            pytest.fail(data["exception_message"])
        elif kind == "execution_success" and data["prompt_id"] == answer["prompt_id"]:
            return shown
