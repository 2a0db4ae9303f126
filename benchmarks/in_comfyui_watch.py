"""What is watched while a graph runs in ComfyUI: memory, previews, each node's time, and an interrupt."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.memory import children_resident
from tools.comfy_client import ComfyClient, Graph, RunFailed

POLL_SECONDS = 0.05
PREVIEW_EVENTS = (1, 4)  # binary messages of ComfyUI's websocket that carry a picture


@contextmanager
def peak_memory(comfy: ComfyClient, cuda: bool) -> Iterator[list[int]]:
    """Bytes in use, polled: of the GPU (the allocator's cache included), or of the server's process on a CPU."""
    used: list[int] = []
    done = threading.Event()

    def poll() -> None:
        while not done.wait(POLL_SECONDS):
            if cuda:
                (device, *_) = comfy.get_json("/system_stats")["devices"]
                used.append(device["vram_total"] - device["vram_free"])
            else:
                used.append(children_resident())

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield used
    finally:
        done.set()
        thread.join()


Message = bytes | dict[str, Any]


def messages(comfy: ComfyClient, graph: Graph) -> Iterator[Message]:
    """What the server sends a page while it runs a graph, to the end of it: bytes are a preview."""
    import websocket  # the package websocket-client

    connection = websocket.create_connection(comfy.url.replace("http", "ws", 1) + "/ws?clientId=benchmark", timeout=600)
    try:
        comfy.post("/prompt", {"prompt": graph, "client_id": "benchmark"})
        while True:
            received = connection.recv()
            message = received if isinstance(received, bytes) else json.loads(received)
            yield message
            if isinstance(message, dict) and message["type"] in ("execution_success", "execution_error"):
                return
    finally:
        connection.close()


def count_previews(comfy: ComfyClient, graph: Graph) -> dict[str, Any]:
    """The preview pictures that a page would have been sent during a graph."""
    pictures, end = 0, ""
    for message in messages(comfy, graph):
        if isinstance(message, bytes):
            pictures += int.from_bytes(message[:4], "big") in PREVIEW_EVENTS
        else:
            end = message["type"]
    return {"previews": pictures, "ended with": end}


@dataclass
class Timeline:
    """Seconds that each node took, and when it reported progress."""

    seconds: dict[str, float] = field(default_factory=dict)
    progress: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def watch(comfy: ComfyClient, graph: Graph) -> Timeline:
    """Run a graph and take the times at which the server's messages arrive. Raises ``RunFailed``."""
    timeline, running, since = Timeline(), None, 0.0
    for message in messages(comfy, graph):
        if isinstance(message, bytes):
            continue
        now, kind, data = time.perf_counter(), message["type"], message["data"]
        if kind == "progress":
            timeline.progress[data["node"]].append(now)
        elif kind == "execution_error":
            raise RunFailed(data["exception_message"])
        elif kind in ("executing", "execution_success"):
            if running is not None:
                timeline.seconds[running] = timeline.seconds.get(running, 0.0) + now - since
            running, since = data.get("node"), now
    return timeline


def interrupt(comfy: ComfyClient, graph: Graph, sampler: str) -> dict[str, Any]:
    """Seconds from an interrupt during sampling until the graph has ended, and whether the next graph runs."""
    long = {**graph, sampler: {**graph[sampler], "inputs": {**graph[sampler]["inputs"], "steps": 1000, "seed": 99}}}
    prompt = comfy.queue(long)
    while not comfy.get_json("/queue")["queue_running"]:
        time.sleep(POLL_SECONDS)
    time.sleep(3)
    started = time.monotonic()
    while not (entry := comfy.get_json(f"/history/{prompt}")):
        comfy.post("/interrupt", {"prompt_id": prompt})  # ComfyUI drops one that comes between two nodes
        time.sleep(POLL_SECONDS)
    seconds = time.monotonic() - started
    interrupted = any(kind == "execution_interrupted" for kind, _ in entry[prompt]["status"]["messages"])
    comfy.run(graph)
    return {"ended": "interrupted" if interrupted else "finished before the interrupt", "seconds": seconds}
