"""The parts that the graphs are made of, each with its place on the page and its knobs."""

from dataclasses import dataclass, replace
from typing import Any

from pusa_core.weights.load import LORA_STRENGTH

from .files import EXPERTS, TEXT_ENCODER, TURBO_LORA, VAE, Files
from .graph import Graph, Place, Slot
from .tasks import FRAMES, TRAIN, KeyframeSource, Workflow

PICTURES, LEVELS, RESULT = Place(1), Place(2), Place(4)
GIVEN, VIDEO, TRAINING = Place(2, "Given frames"), Place(3, "Pusa video"), Place(1, "Train a LoRA")
STEPS, CFG, TURBO_STEPS, TURBO_CFG = 10, 3.0, 4, 1.0
FPS = 16  # of Wan


@dataclass(frozen=True)
class Size:
    """Width and height in pixels, and length in frames."""

    width: int
    height: int
    length: int | Slot = FRAMES


def add_seconds(graph: Graph, place: Place, size: Size, fps: int = FPS) -> Size:
    """Let the length be set in seconds, with ComfyUI's Math Expression."""
    with graph.at(place):
        seconds = graph.add("PrimitiveFloat", "Seconds", value=5.0)
        values: dict[str, Any] = {"expression": f"4 * round({fps // 4} * a) + 1", "values.a": graph.slot(seconds)}
        frames = graph.add("ComfyMathExpression", f"Frames: {fps} a second, 4 n + 1", **values)
    graph.knob("seconds", "seconds", (seconds, "value"))
    return replace(size, length=graph.slot(frames, 1))


def add_size_knobs(graph: Graph, sized: list[int], long: list[int]) -> None:
    """One place for the size of the nodes ``sized`` and the length of ``long``, unless that is computed."""
    for name in ("width", "height") if sized else ():
        graph.knob(name, name, *((node, name) for node in sized))
    if long and not isinstance(graph.nodes[long[0] - 1].values["length"], Slot):
        graph.knob("frames", "frames (4 n + 1)", *((node, "length") for node in long))


def add_model(
    graph: Graph,
    model: str,
    lora: str | Slot,
    strength: float = LORA_STRENGTH,
    files: Files | None = None,
    level: str = "",
) -> Slot:
    """Pusa Load; ``level``: high or low for Wan2.2's two models."""
    values = {"model_name": model, "lora_name": lora, "lora_strength": strength}
    with graph.at(VIDEO):
        number = graph.add("PusaLoad", f"{level.title()}-noise model" if level else None, files, **values)
    before, after = (f"{level}-noise ", f"_{level}") if level else ("", "")
    for name, label in (("model_name", "model"), ("lora_name", "Pusa LoRA"), ("lora_strength", "Pusa strength")):
        graph.knob(f"{name}{after}", f"{before}{label}", (number, name))
    return graph.slot(number)


def add_native_model(
    graph: Graph, model: str, lora: str | Slot, strength: float = LORA_STRENGTH, files: Files | None = None
) -> Slot:
    """ComfyUI's own loaders, with the shift of Wan, and Pusa Patch Model."""
    dit, pusa = ([entry] for entry in files) if files else (None, None)
    with graph.at(VIDEO):
        loader = graph.add("UNETLoader", files=dit, unet_name=model)
        values: dict[str, Any] = {"lora_name": lora, "strength_model": strength}
        with_lora = graph.add("LoraLoaderModelOnly", "Pusa LoRA", pusa, model=graph.slot(loader), **values)
        shifted = graph.add("ModelSamplingSD3", "Shift", model=graph.slot(with_lora), shift=5.0)
        patched = graph.add("PusaPatchModel", model=graph.slot(shifted))
    graph.knob("model_name", "model", (loader, "unet_name"))
    graph.knob("lora_name", "Pusa LoRA", (with_lora, "lora_name"))
    graph.knob("lora_strength", "Pusa strength", (with_lora, "strength_model"))
    return graph.slot(patched)


def add_turbo_lora(graph: Graph, model: Slot, level: str = "") -> Slot:
    """The 4-step LoRA for a model."""
    file = EXPERTS[level][2] if level else TURBO_LORA
    values = {"model": model, "lora_name": file["name"], "strength_model": 1.0}
    with graph.at(VIDEO):
        number = graph.add("LoraLoaderModelOnly", f"4 steps, {level} noise" if level else "4 steps", [file], **values)
    before, after = (f"{level}-noise ", f"_{level}") if level else ("", "")
    graph.knob(f"turbo_lora{after}", f"{before}turbo LoRA", (number, "lora_name"))
    return graph.slot(number)


def add_turbo(graph: Graph, models: dict[str, tuple[Slot, Slot]], on: bool) -> dict[str, Any]:
    """A switch between models without and with 4-step LoRA, and between the steps and cfg that go with them.

    Uses ComfyUI's If/Else Switch. Returns the inputs of the sampler.
    """
    choices, inputs, switches = dict(models), {}, []
    with graph.at(VIDEO):
        steps, cfg = graph.add("PrimitiveInt", "Steps", value=STEPS), graph.add("PrimitiveFloat", "cfg", value=CFG)
        turbo_steps = graph.add("PrimitiveInt", "Steps of turbo", value=TURBO_STEPS)
        turbo_cfg = graph.add("PrimitiveFloat", "cfg of turbo", value=TURBO_CFG)
        choices["steps"] = (graph.slot(steps), graph.slot(turbo_steps))
        choices["cfg"] = (graph.slot(cfg), graph.slot(turbo_cfg))
        for name, (off, turbo) in choices.items():
            switches.append(graph.add("ComfySwitchNode", f"Turbo: {name}", switch=on, on_false=off, on_true=turbo))
            inputs[name] = Slot(switches[-1], 0, off.kind)
    graph.knob("turbo", "turbo (4 steps)", *((switch, "switch") for switch in switches))
    graph.knob("steps", "steps without turbo", (steps, "value"))
    graph.knob("cfg", "cfg without turbo", (cfg, "value"))
    return inputs


def add_encoders(graph: Graph, vae_place: Place) -> tuple[Slot, Slot]:
    """Wan's text encoder and VAE."""
    encoder = {"clip_name": TEXT_ENCODER["name"], "type": "wan"}
    with graph.at(VIDEO):
        clip = graph.add("CLIPLoader", files=[TEXT_ENCODER], **encoder)
    with graph.at(vae_place):
        vae = graph.add("VAELoader", files=[VAE], vae_name=VAE["name"])
    graph.knob("clip_name", "text encoder", (clip, "clip_name"))
    graph.knob("vae_name", "VAE", (vae, "vae_name"))
    return graph.slot(clip), graph.slot(vae)


def add_prompts(graph: Graph, clip: Slot, prompt: str | Slot, avoid: str) -> dict[str, Slot]:
    with graph.at(VIDEO):
        positive = graph.add("CLIPTextEncode", "Prompt", clip=clip, text=prompt)
        negative = graph.add("CLIPTextEncode", "Negative prompt", clip=clip, text=avoid)
    graph.knob("prompt", "prompt", (positive, "text"))
    graph.knob("negative", "negative prompt", (negative, "text"))
    return {"positive": graph.slot(positive), "negative": graph.slot(negative)}


def add_user_frames(graph: Graph, given: KeyframeSource, size: Size) -> tuple[int, Slot]:
    """An image or clip from the input folder, scaled and cropped; returns the scaling node and the frames."""
    kind, key = ("LoadImage", "image") if given.length == 1 else ("LoadVideo", "file")
    with graph.at(PICTURES):
        values: dict[str, Any] = {key: given.file}
        image = graph.slot(graph.add(kind, given.title, **values))
    with graph.at(GIVEN):
        if given.length > 1:
            frames = graph.slot(graph.add("GetVideoComponents", video=image))
            whole = given.length == FRAMES
            taken: dict[str, Any] = {"batch_index": given.file_first, "length": size.length if whole else given.length}
            number = graph.add("ImageFromBatch", "Select frames", image=frames, **taken)
            graph.knob(f"{given.name}_from", f"{given.name}: first frame", (number, "batch_index"))
            if not whole:
                graph.knob(f"{given.name}_frames", f"{given.name}: frames", (number, "length"))
            image = graph.slot(number)
        values = {"width": size.width, "height": size.height, "crop": "center"}
        scale = graph.add("ImageScale", "Video size", image=image, upscale_method="lanczos", **values)
    return scale, graph.slot(scale)


def add_demo_frames(graph: Graph, task: Workflow, given: KeyframeSource) -> int:
    with graph.at(LEVELS if task is TRAIN else PICTURES):  # the training takes the place of the pictures
        if (given.first, given.length) == (0, 1):
            return graph.add("PusaDemoImage", seed=task.seed)
        return graph.add("PusaDemoClip", given.title, seed=task.seed, first=given.first, length=given.length)


def add_latent(graph: Graph, task: Workflow, vae: Slot, images: list[Slot], size: Size, sized: list[int]) -> Slot:
    """An empty video, or one with the task's given frames at their noise levels; ``sized``: nodes that scale."""
    if not task.given:
        with graph.at(VIDEO):
            number = graph.add("EmptyHunyuanLatentVideo", "Size and length", **vars(size))
        add_size_knobs(graph, [number], [number])
        return graph.slot(number)
    before: dict[str, Any] = {}
    encoders = []
    with graph.at(GIVEN):
        for given, image in zip(task.given, images, strict=True):
            place: dict[str, Any] = {"position": given.position, "length": size.length}
            encoders.append(graph.add("PusaEncodeKeyframes", given.title, vae=vae, image=image, **place, **before))
            before = {"latent": graph.slot(encoders[-1])}
    add_size_knobs(graph, sized, encoders)
    with graph.at(LEVELS):
        return graph.slot(graph.add("PusaFrameMask", latent=before["latent"], noise_levels=task.noise_levels))


def add_video(graph: Graph, vae: Slot, links: dict[str, Any], sampler: str = "PusaSampler", fps: int = FPS) -> None:
    """Sampler, VAE decoder and video output."""
    with graph.at(VIDEO):
        number = graph.add(sampler, **links)
        graph.knob("seed", "seed", (number, "seed"))
        for name in ("steps", "cfg"):
            if not isinstance(graph.nodes[number - 1].values[name], Slot):
                graph.knob(name, name, (number, name))
        images = graph.slot(graph.add("VAEDecode", samples=graph.slot(number), vae=vae))
        video = graph.slot(graph.add("CreateVideo", images=images, fps=float(fps)))
    with graph.at(RESULT):
        graph.add("SaveVideo", "The video", video=video, filename_prefix=f"video/pusa_{graph.name}")
