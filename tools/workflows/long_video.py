"""The graph of a video of any length: one node makes it all."""

from typing import Any

from pusa_core.weights.demo_files import LORA_STRENGTH as DEMO_LORA_STRENGTH

from . import parts
from .graph import Graph, Slot
from .parts import DEMO_SIDE, PICTURES, RESULT, VIDEO
from .training import DEMO_FILES
from .workflow import HEIGHT, WIDTH, Workflow

KNOBS = {
    "prompt": "Prompt",
    "negative": "Negative prompt",
    "seconds": "Seconds",
    "width": "Width",
    "height": "Height",
    "seed": "Seed",
    "steps": "Steps",
    "cfg": "CFG",
    "scenes": "Folder of the scenes",
    "retakes": "Retakes",
    "until": "Stop behind scene",
}


def add_demo_long_video(graph: Graph, task: Workflow) -> Graph:
    """With the embedded demo model: from 13 frames of a demo clip."""
    (given,) = task.given
    clip = parts.add_demo_frames(graph, task, given)
    model = parts.add_model(graph, DEMO_FILES["model_name"], "pusa_demo_lora.safetensors", DEMO_LORA_STRENGTH)
    model = parts.add_demo_long_lora(graph, model)
    with graph.at(VIDEO):
        loader = graph.add("PusaDemoLoader")
    made_of = {"model": model, "clip": graph.slot(loader), "vae": graph.slot(loader, 1), "image": graph.slot(clip)}
    size = {"width": DEMO_SIDE, "height": DEMO_SIDE}
    return _add(graph, **made_of, **size, prompt=task.demo_prompt, seconds=9.5, scenes="pusa/demo_scenes")


def add_long_video(graph: Graph, task: Workflow, models: dict[str, Any]) -> Graph:
    """With the standard model files, from a clip of the user."""
    (given,) = task.given
    with graph.at(PICTURES):
        clip = graph.slot(graph.add("LoadVideo", given.title, file=given.file))
    encoder, vae = parts.add_encoders(graph, VIDEO)
    size = {"width": WIDTH, "height": HEIGHT}
    return _add(graph, clip=encoder, vae=vae, video=clip, prompt=task.prompt, seconds=20.0, **models, **size)


def _add(graph: Graph, **values: Any) -> Graph:
    with graph.at(VIDEO):
        number = graph.add("PusaExtendVideo", **values)
    for name, label in KNOBS.items():
        if name not in ("steps", "cfg") or not isinstance(graph.nodes[number - 1].values[name], Slot):  # of turbo
            graph.knob(name, label, (number, name))
    with graph.at(RESULT):
        graph.add("SaveVideo", "The video", video=graph.slot(number), filename_prefix=f"video/pusa_{graph.name}")
        graph.add("PreviewImage", "Scenes", images=graph.slot(number, 2))
    return graph
