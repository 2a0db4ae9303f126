"""A minimal client for ComfyUI's HTTP API, of the standard library alone; ``docs/api.md`` shows it at work."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Graph = dict[str, dict[str, Any]]

PATIENCE = 600  # timeout in seconds, for requests and for graphs; generous, for busy CPUs


class PromptRefused(Exception):
    """The server rejected a graph during validation; ``str()`` lists all errors."""


class RunFailed(Exception):
    """A node raised an error; ``str()`` is its message."""


class ComfyClient:
    """``url``: of the server, such as ``http://127.0.0.1:8188``."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as response:
            return response.read()

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._send(path, json.dumps(body).encode(), "application/json")

    def upload(self, path: str | Path) -> str:
        """Upload a picture or clip to the input folder; returns its name there, for *Load Image* or *Load Video*."""
        boundary, path = uuid.uuid4().hex, Path(path)
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\n\r\n'
        data = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        return self._send("/upload/image", data, f"multipart/form-data; boundary={boundary}")["name"]

    def queue(self, graph: Graph) -> str:
        """Queue a graph and return the prompt id. Raises ``PromptRefused``."""
        try:
            answer = self.post("/prompt", {"prompt": graph})
        except urllib.error.HTTPError as error:
            raise PromptRefused(_reasons(json.loads(error.read()))) from None
        if answer["node_errors"]:
            raise PromptRefused(_reasons(answer))
        return answer["prompt_id"]

    def wait(self, prompt_id: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait for a queued graph and return its outputs by node id. Raises ``RunFailed``."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if entry := self.get_json(f"/history/{prompt_id}").get(prompt_id):
                if entry["status"]["status_str"] == "success":
                    return entry["outputs"]
                raise RunFailed(_failure(entry["status"]["messages"]))
            time.sleep(0.1)
        raise TimeoutError(f"the graph did not end within {seconds} s")

    def run(self, graph: Graph) -> dict[str, Any]:
        return self.wait(self.queue(graph))

    def free(self) -> None:
        """Have the server forget all results and unload its models before it runs the next graph."""
        self.post("/free", {"unload_models": True, "free_memory": True})
        # it does so behind a graph, and says nothing of it; without a graph, some time later
        self.run({"end": {"class_type": "PreviewAny", "inputs": {"source": ""}}})

    def file(self, entry: dict[str, str]) -> bytes:
        """Download a file written by an output node, given its entry in the outputs."""
        return self.get("/view?" + urllib.parse.urlencode(entry))

    def latent(self, graph: Graph, node: str, output: int = 0) -> "Tensor":
        """Run a graph and return the samples of a node's LATENT output."""
        from safetensors.torch import load  # this alone needs torch

        save = {"class_type": "SaveLatent", "inputs": {"samples": [node, output], "filename_prefix": "latent"}}
        outputs = self.run({**graph, "save_latent": save})
        return load(self.file(outputs["save_latent"]["latents"][0]))["latent_tensor"]

    def _send(self, path: str, data: bytes, content_type: str) -> Any:
        request = urllib.request.Request(self.url + path, data, {"Content-Type": content_type})
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            text = response.read()
        return json.loads(text) if text else None


def _reasons(answer: dict[str, Any]) -> str:
    errors = [answer["error"]] if answer.get("error") else []
    for node in answer.get("node_errors", {}).values():
        errors += node["errors"]
    return "\n".join(f"{error['message']}: {error['details']}" for error in errors)


def _failure(messages: list[tuple[str, dict[str, Any]]]) -> str:
    for kind, data in messages:
        if kind == "execution_error":
            return data["exception_message"]
    return str(messages)
