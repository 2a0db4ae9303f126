"""The graph of each task, with the demo model and with the standard model files."""

from typing import Any

from pusa_core.weights.demo_files import LORA_STRENGTH as DEMO_LORA_STRENGTH

from . import parts
from .files import EXPERTS, MADE_FOR_LEVELS, PUSA_LORA, T2V, TEXT_ENCODER, VAE
from .graph import Graph, Slot
from .long_video import add_demo_long_video, add_long_video
from .parts import DEMO_SIDE, GIVEN, RESULT, VIDEO, Size
from .tasks import CLIPS, EXTEND, KSAMPLER, TRAIN, WAN22
from .training import DEMO_FILES, add_demo_training, add_training
from .workflow import HEIGHT, WIDTH, Workflow

AVOID = (
    "bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, overall gray, "
    "worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, poorly "
    "drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three legs, "
    "many people in the background, walking backwards"
)


SETTINGS = ("steps", "cfg", "shift")
"""Of the sampler, which a checkpoint made for a timestep per frame brings along."""

MARGINS: dict[str, Any] = {"left": 176, "top": 0, "right": 176, "bottom": 0}
"""Of a clip of 480 x 480 in a video of 832 x 480, pixels."""


def new_graph(name: str, task: Workflow) -> Graph:
    pictures = ("Training, first frame" if task is TRAIN else "Pictures") if task.given else "Text to video"
    return Graph(name, columns={1: pictures, 2: "Given frames, noise levels", 3: "Video", 4: "Result"})


def demo_graph(task: Workflow) -> Graph:
    """The task with the embedded demo model."""
    graph = new_graph(f"demo_{task.name}", task)
    if task is EXTEND:
        return add_demo_long_video(graph, task)
    lora = add_demo_training(graph) if task is TRAIN else "pusa_demo_lora.safetensors"
    if task is KSAMPLER:
        model = parts.add_native_model(graph, DEMO_FILES["model_name"], lora, DEMO_LORA_STRENGTH)
    else:
        model = parts.add_model(graph, DEMO_FILES["model_name"], lora, DEMO_LORA_STRENGTH)
    if task in CLIPS:
        model = parts.add_demo_long_lora(graph, model)
    with graph.at(GIVEN if task.given else VIDEO):
        loader = graph.add("PusaDemoLoader")
    frames = [parts.add_demo_frames(graph, task, given) for given in task.given]
    prompt = task.demo_prompt or graph.slot(frames[0], 1)
    links: dict[str, Any] = parts.add_prompts(graph, graph.slot(loader, 0), prompt, "")
    vae, images, mask = graph.slot(loader, 1), [graph.slot(number) for number in frames], None
    if task.part == "mask":
        mask = parts.add_demo_mask(graph, task.demo_area)
    if task.part == "margin":
        images[0], mask = parts.add_margins(graph, *parts.add_demo_part(graph, images[0], task.demo_area))
    latent = parts.add_latent(graph, task, vae, images, Size(DEMO_SIDE, DEMO_SIDE), mask)
    links |= {"model": model}
    finish(graph, task, vae, links, latent, images)
    return graph


def user_graph(task: Workflow, newest: bool = False) -> Graph:
    """The task with the standard model files.

    ``newest``: with a length in seconds and a turbo switch, which need nodes that the oldest supported ComfyUI lacks.
    """
    graph = new_graph(task.name, task)
    if task is EXTEND:
        return add_long_video(graph, task, add_models(graph, task, newest))
    place = GIVEN if task.given else VIDEO
    size = Size(1280, 720, 121) if task.family else Size(WIDTH, HEIGHT)
    if newest:
        size = parts.add_seconds(graph, place, size, fps_of(task))
    links = add_models(graph, task, newest)
    clip, vae = parts.add_encoders(graph, place)
    images = [parts.add_user_frames(graph, given, size) for given in task.given]
    mask = parts.add_mask(graph) if task.part == "mask" else None
    if task.part == "margin":
        images[0], mask = parts.add_margins(graph, images[0], MARGINS)
    links |= parts.add_prompts(graph, clip, task.prompt, AVOID)
    latent = parts.add_latent(graph, task, vae, images, size, mask)
    finish(graph, task, vae, links, latent, images)
    return graph


def add_models(graph: Graph, task: Workflow, newest: bool) -> dict[str, Any]:
    """The models of a task, and the steps and cfg that go with them, as inputs of the sampler."""
    if task is TRAIN:
        lora = add_training(graph, [T2V, VAE, TEXT_ENCODER])
        return {"model": parts.add_model(graph, T2V["name"], lora, files=[T2V])}
    if task is KSAMPLER:
        return {"model": parts.add_native_model(graph, T2V["name"], PUSA_LORA["name"], files=[T2V, PUSA_LORA])}
    if task.family is not None:
        file, settings = MADE_FOR_LEVELS[task.family], {key: getattr(task.family, key) for key in SETTINGS}
        return {"model": parts.add_model(graph, file["name"], "none", files=[file]), **settings}
    if task in WAN22:
        models = {}
        for slot, level, strength in (("model", "high", 1.5), ("model_low", "low", 1.4)):
            dit, pusa, _ = EXPERTS[level]
            loaded = parts.add_model(graph, dit["name"], pusa["name"], strength, [dit, pusa], level)
            models[slot] = (loaded, parts.add_turbo_lora(graph, loaded, level))
        if newest:
            return parts.add_turbo(graph, models, on=True)
        turbo = {slot: model for slot, (_, model) in models.items()}
        return turbo | {"steps": parts.TURBO_STEPS, "cfg": parts.TURBO_CFG}
    model = parts.add_model(graph, T2V["name"], PUSA_LORA["name"], files=[T2V, PUSA_LORA])
    if newest:
        return parts.add_turbo(graph, {"model": (model, parts.add_turbo_lora(graph, model))}, on=True)
    return {"model": model}


def fps_of(task: Workflow) -> int:
    return task.family.fps if task.family else parts.FPS


def finish(graph: Graph, task: Workflow, vae: Slot, links: dict[str, Any], latent: Slot, images: list[Slot]) -> None:
    if task is KSAMPLER:
        links |= {"latent_image": latent, "steps": parts.STEPS, "cfg": parts.CFG}
        parts.add_video(graph, vae, links | {"sampler_name": "euler", "scheduler": "simple"}, "KSampler")
    else:
        around = (task.around, images) if task.around else None
        parts.add_video(graph, vae, links | {"latent": latent}, fps=fps_of(task), around=around)
    if task is TRAIN:
        training = next(n for n, node in enumerate(graph.nodes, 1) if node.kind == "PusaTrainLora")
        with graph.at(RESULT):
            graph.add("PreviewImage", "Loss", images=graph.slot(training, 1))
