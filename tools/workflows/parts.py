"""The parts that the graphs are made of, each with its place on the page and its knobs."""

from dataclasses import dataclass, replace
from typing import Any

from pusa_core.weights.load import LORA_STRENGTH

from .files import EXPERTS, TEXT_ENCODER, TURBO_LORA, VAE, Files
from .graph import Graph, Place, Slot
from .workflow import FRAMES, Area, Around, KeyframeSource, Workflow

PICTURES, LEVELS, RESULT = Place(1), Place(2), Place(4)
GIVEN, VIDEO, TRAINING = Place(2, "Given frames"), Place(3, "Pusa video"), Place(1, "Train a LoRA")
DEMO_SIDE = 64
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
    graph.knob("seconds", "Seconds", (seconds, "value"))
    return replace(size, length=graph.slot(frames, 1))


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
    before, after = (f"{level.title()} noise: ", f"_{level}") if level else ("", "")
    for name, label in (("model_name", "Model"), ("lora_name", "Pusa LoRA"), ("lora_strength", "Pusa strength")):
        graph.knob(f"{name}{after}", f"{before}{label}", (number, name))
    return graph.slot(number)


def add_demo_long_lora(graph: Graph, model: Slot) -> Slot:
    """The demo's LoRA for windows of long videos, in which objects turn round."""
    values: dict[str, Any] = {"model": model, "lora_name": "pusa_demo_long_lora.safetensors", "strength_model": 1.0}
    with graph.at(VIDEO):
        return graph.slot(graph.add("LoraLoaderModelOnly", "LoRA for long videos", **values))


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
    graph.knob("model_name", "Model", (loader, "unet_name"))
    graph.knob("lora_name", "Pusa LoRA", (with_lora, "lora_name"))
    graph.knob("lora_strength", "Pusa strength", (with_lora, "strength_model"))
    return graph.slot(patched)


def add_turbo_lora(graph: Graph, model: Slot, level: str = "") -> Slot:
    """The 4-step LoRA for a model."""
    file = EXPERTS[level][2] if level else TURBO_LORA
    values = {"model": model, "lora_name": file["name"], "strength_model": 1.0}
    with graph.at(VIDEO):
        number = graph.add("LoraLoaderModelOnly", f"4 steps, {level} noise" if level else "4 steps", [file], **values)
    before, after = (f"{level.title()} noise: ", f"_{level}") if level else ("", "")
    graph.knob(f"turbo_lora{after}", f"{before}Turbo LoRA", (number, "lora_name"))
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
    graph.knob("turbo", "Turbo (4 steps)", *((switch, "switch") for switch in switches))
    graph.knob("steps", "Steps without turbo", (steps, "value"))
    graph.knob("cfg", "CFG without turbo", (cfg, "value"))
    return inputs


def add_encoders(graph: Graph, vae_place: Place) -> tuple[Slot, Slot]:
    """Wan's text encoder and VAE."""
    encoder = {"clip_name": TEXT_ENCODER["name"], "type": "wan"}
    with graph.at(VIDEO):
        clip = graph.add("CLIPLoader", files=[TEXT_ENCODER], **encoder)
    with graph.at(vae_place):
        vae = graph.add("VAELoader", files=[VAE], vae_name=VAE["name"])
    graph.knob("clip_name", "Text encoder", (clip, "clip_name"))
    graph.knob("vae_name", "VAE", (vae, "vae_name"))
    return graph.slot(clip), graph.slot(vae)


def add_prompts(graph: Graph, clip: Slot, prompt: str | Slot, avoid: str) -> dict[str, Slot]:
    with graph.at(VIDEO):
        positive = graph.add("CLIPTextEncode", "Prompt", clip=clip, text=prompt)
        negative = graph.add("CLIPTextEncode", "Negative prompt", clip=clip, text=avoid)
    graph.knob("prompt", "Prompt", (positive, "text"))
    graph.knob("negative", "Negative prompt", (negative, "text"))
    return {"positive": graph.slot(positive), "negative": graph.slot(negative)}


def add_user_frames(graph: Graph, given: KeyframeSource, size: Size) -> Slot:
    """An image or clip from the input folder; returns its frames."""
    kind, key = ("LoadImage", "image") if given.length == 1 else ("LoadVideo", "file")
    values: dict[str, Any] = {key: given.file}
    with graph.at(PICTURES):
        image = graph.slot(
            graph.find(kind, values) or graph.add(kind, "The clip" if given.end else given.title, **values)
        )
    if given.length == 1:
        return image
    whole = given.length == FRAMES
    taken: dict[str, Any] = {"batch_index": given.file_first, "length": size.length if whole else given.length}
    with graph.at(GIVEN):
        same: dict[str, Any] = {"video": image}
        frames = graph.slot(graph.find("GetVideoComponents", same) or graph.add("GetVideoComponents", **same))
        number = graph.add("ImageFromBatch", "Select frames", image=frames, **taken)
    graph.knob(f"{given.name}_from", f"{given.name.title()}: first frame", (number, "batch_index"))
    if not whole:
        graph.knob(f"{given.name}_frames", f"{given.name.title()}: frames", (number, "length"))
    return graph.slot(number)


def add_demo_frames(graph: Graph, task: Workflow, given: KeyframeSource) -> int:
    if task.around and not task.around.joins:  # all of the clip is shown, and its ends are given
        with graph.at(PICTURES):
            whole: dict[str, Any] = {"seed": task.seed, "first": 0, "length": FRAMES}
            clip = graph.find("PusaDemoClip", whole) or graph.add("PusaDemoClip", "The clip", **whole)
        with graph.at(GIVEN):
            taken: dict[str, Any] = {"batch_index": given.first, "length": given.length}
            return graph.add("ImageFromBatch", "Select frames", image=graph.slot(clip), **taken)
    with graph.at(PICTURES):
        if (given.first, given.length) == (0, 1):
            return graph.add("PusaDemoImage", seed=task.seed)
        return graph.add("PusaDemoClip", given.title, seed=task.seed, first=given.first, length=given.length)


def add_mask(graph: Graph) -> Slot:
    """The area that is to change, painted by the user; returns its MASK."""
    with graph.at(PICTURES):
        return graph.slot(graph.add("LoadImage", "The area", image="area.png"), 1)


def add_demo_mask(graph: Graph, area: Area) -> Slot:
    """A MASK of the size of the demo clip, white in ``area``."""
    with graph.at(GIVEN):
        black = graph.add("SolidMask", "Size of the clip", value=0.0, width=DEMO_SIDE, height=DEMO_SIDE)
        white = graph.add("SolidMask", "The area", value=1.0, width=area.width, height=area.height)
        place: dict[str, Any] = {
            "destination": graph.slot(black),
            "source": graph.slot(white),
            "x": area.x,
            "y": area.y,
        }
        mask = graph.add("MaskComposite", "The area in the clip", operation="add", **place)
    for name, node, key in (("left", mask, "x"), ("top", mask, "y"), ("width", white, "width")):
        graph.knob(f"area_{name}", f"Area: {name}", (node, key))
    graph.knob("area_height", "Area: height", (white, "height"))
    return graph.slot(mask)


def add_demo_part(graph: Graph, clip: Slot, area: Area) -> tuple[Slot, dict[str, Any]]:
    """What is given of the demo clip, and the margins that complete it."""
    with graph.at(GIVEN):
        part = graph.slot(graph.add("ImageCrop", "What is given", image=clip, **area._asdict()))
    right, bottom = DEMO_SIDE - area.x - area.width, DEMO_SIDE - area.y - area.height
    return part, {"left": area.x, "top": area.y, "right": right, "bottom": bottom}


def add_margins(graph: Graph, clip: Slot, margins: dict[str, Any]) -> tuple[Slot, Slot]:
    """The clip in a larger frame, and the MASK of what is around it."""
    with graph.at(GIVEN):
        padded = graph.add("ImagePadForOutpaint", "Margins", image=clip, feathering=0, **margins)
    for name in margins:
        graph.knob(name, name.title(), (padded, name))
    return graph.slot(padded), graph.slot(padded, 1)


def add_latent(
    graph: Graph, task: Workflow, vae: Slot, images: list[Slot], size: Size, mask: Slot | None = None
) -> Slot:
    """An empty video, or one with the task's given frames at their noise levels."""
    with graph.at(GIVEN if task.given else VIDEO):
        number = graph.add("EmptyHunyuanLatentVideo", "Size and length", **vars(size))
        latent = graph.slot(number)
        for given, image in zip(task.given, images, strict=True):
            values: dict[str, Any] = {"vae": vae, "image": image, "latent": latent, "position": given.position}
            latent = graph.slot(graph.add("PusaEncodeKeyframes", given.title, **values))
    for name in ("width", "height"):
        graph.knob(name, name.title(), (number, name))
    if not isinstance(size.length, Slot):
        graph.knob("frames", "Frames (4 n + 1)", (number, "length"))
    if not task.given:
        return latent
    masked: dict[str, Any] = {} if mask is None else {"mask": mask, "mask_level": task.mask_level}
    with graph.at(LEVELS):
        return graph.slot(graph.add("PusaFrameMask", latent=latent, noise_levels=task.noise_levels, **masked))


def add_around(graph: Graph, around: Around, new: Slot, images: list[Slot]) -> Slot:
    """The new frames of a window between the clips that ``images`` were taken from, whole."""
    clips = [graph.source(slot, "ImageFromBatch", "image") for slot in images]
    taken: dict[str, Any] = {"batch_index": around.first, "length": around.frames}
    joined = graph.slot(graph.add("ImageFromBatch", "New frames", image=new, **taken))
    joined = graph.slot(graph.add("ImageBatch", "Behind the clip", image1=clips[0], image2=joined))
    if not around.joins:
        return joined
    return graph.slot(graph.add("ImageBatch", "Before the other", image1=joined, image2=clips[1]))


def add_video(
    graph: Graph,
    vae: Slot,
    links: dict[str, Any],
    sampler: str = "PusaSampler",
    fps: int = FPS,
    around: tuple[Around, list[Slot]] | None = None,
) -> None:
    """Sampler, VAE decoder and video output; with ``around``, between the frames of clips."""
    with graph.at(VIDEO):
        number = graph.add(sampler, **links)
        graph.knob("seed", "Seed", (number, "seed"))
        for name, label in (("steps", "Steps"), ("cfg", "CFG")):
            if not isinstance(graph.nodes[number - 1].values[name], Slot):
                graph.knob(name, label, (number, name))
        images = graph.slot(graph.add("VAEDecode", samples=graph.slot(number), vae=vae))
        if around:
            images = add_around(graph, around[0], images, around[1])
        video = graph.slot(graph.add("CreateVideo", images=images, fps=float(fps)))
    with graph.at(RESULT):
        graph.add("SaveVideo", "The video", video=video, filename_prefix=f"video/pusa_{graph.name}")
