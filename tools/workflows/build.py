"""Generates the workflow files in both formats: ``python -m tools.workflows.build``.

Each task has two graphs: ``demo_<name>`` with the embedded demo model, which runs without downloads, and ``<name>``
with the standard model files.
"""

import json
from pathlib import Path
from typing import Any

from pusa_core.weights.demo_files import LORA_STRENGTH as DEMO_LORA_STRENGTH
from pusa_core.weights.load import LORA_STRENGTH

from .graph import Graph, Slot, dump
from .parameters import table
from .tasks import FRAMES, HEIGHT, TASKS, WAN22, WIDTH, KeyframeSource, Workflow
from .training import DEMO_FILES, TRAIN, add_demo_training, add_training

WORKFLOWS = Path(__file__).parents[2] / "workflows"
HUB = "https://huggingface.co"
WAN21, WAN22_FILES = f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged", f"{HUB}/Comfy-Org/Wan_2.2_ComfyUI_Repackaged"
SPLIT, PUSA = "resolve/main/split_files", f"{HUB}/Kijai/WanVideo_comfy/resolve/main/Pusa"
AVOID = (
    "bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, overall gray, "
    "worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, poorly "
    "drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three legs, "
    "many people in the background, walking backwards"
)
STRENGTH = (
    "*Pusa Load*: `lora_strength`, {usual}; higher values follow the given frames more closely, lower ones give more "
    "motion."
)


Files = list[dict[str, str]]


def file(url: str) -> dict[str, str]:
    """The entry of a model file that the page offers for download."""
    folder = next(
        (name for name in ("diffusion_models", "text_encoders", "vae", "loras") if f"/{name}/" in url), "loras"
    )
    return {"name": url.rpartition("/")[2], "url": url, "directory": folder}


TEXT_ENCODER = file(f"{WAN21}/{SPLIT}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors")
VAE = file(f"{WAN21}/{SPLIT}/vae/wan_2.1_vae.safetensors")
T2V = file(f"{WAN21}/{SPLIT}/diffusion_models/wan2.1_t2v_14B_fp8_scaled.safetensors")
PUSA_LORA = file(f"{PUSA}/Wan21_PusaV1_LoRA_14B_rank512_bf16.safetensors")
EXPERTS = {
    level: (
        file(f"{WAN22_FILES}/{SPLIT}/diffusion_models/wan2.2_t2v_{level}_noise_14B_fp8_scaled.safetensors"),
        file(f"{PUSA}/Wan22_PusaV1_lora_{level.upper()}_resized_dynamic_avg_rank_98_bf16.safetensors"),
        file(f"{WAN22_FILES}/{SPLIT}/loras/wan2.2_t2v_lightx2v_4steps_lora_v1.1_{level}_noise.safetensors"),
    )
    for level in ("high", "low")
}


def add_loader(
    graph: Graph,
    model: str,
    lora: str | Slot,
    strength: float = LORA_STRENGTH,
    title: str | None = None,
    files: Files | None = None,
) -> Slot:
    values = {"model_name": model, "lora_name": lora, "lora_strength": strength}
    return graph.slot(graph.add("PusaLoad", 0, title, files, **values))


def add_prompts(graph: Graph, clip: Slot, prompt: str | Slot, avoid: str) -> dict[str, Slot]:
    positive = graph.add("CLIPTextEncode", 3, "Prompt", clip=clip, text=prompt)
    negative = graph.add("CLIPTextEncode", 3, "Negative prompt", clip=clip, text=avoid)
    return {"positive": graph.slot(positive), "negative": graph.slot(negative)}


def add_latent(graph: Graph, task: Workflow, vae: Slot, images: list[Slot], size: tuple[int, int]) -> Slot:
    """An empty video, or one with the task's given frames at their noise levels."""
    if not task.given:
        number = graph.add(
            "EmptyHunyuanLatentVideo", 4, "Size and length", width=size[0], height=size[1], length=FRAMES
        )
        return graph.slot(number)
    before: dict[str, Any] = {}
    for given, image in zip(task.given, images, strict=True):
        place: dict[str, Any] = {"position": given.position, "length": FRAMES}
        number = graph.add("PusaEncodeKeyframes", 4, given.title, vae=vae, image=image, **place, **before)
        before = {"latent": graph.slot(number)}
    return graph.slot(graph.add("PusaFrameMask", 5, latent=before["latent"], noise_levels=task.noise_levels))


def add_sampling(graph: Graph, vae: Slot, links: dict[str, Slot], **settings: float) -> None:
    """Sampler, VAE decoder and video output."""
    values: dict[str, Any] = {**links, **settings}
    samples = graph.slot(graph.add("PusaSampler", 6, **values))
    images = graph.slot(graph.add("VAEDecode", 7, samples=samples, vae=vae))
    video = graph.slot(graph.add("CreateVideo", 7, images=images, fps=16.0))
    graph.add("SaveVideo", 8, video=video, filename_prefix=f"video/pusa_{graph.name}")


def demo_frames(graph: Graph, task: Workflow, given: KeyframeSource) -> int:
    if (given.first, given.length) == (0, 1):
        return graph.add("PusaDemoImage", 1, seed=task.seed)
    return graph.add("PusaDemoClip", 1, given.title, seed=task.seed, first=given.first, length=given.length)


def user_frames(graph: Graph, given: KeyframeSource) -> Slot:
    """An image or clip from the input folder, scaled and cropped to the video's size."""
    if given.length == 1:
        image = graph.slot(graph.add("LoadImage", 1, given.title, image=given.file))
    else:
        video = graph.slot(graph.add("LoadVideo", 1, given.title, file=given.file))
        frames = graph.slot(graph.add("GetVideoComponents", 1, video=video))
        taken: dict[str, Any] = {"batch_index": given.file_first, "length": given.length}
        image = graph.slot(graph.add("ImageFromBatch", 2, "Select frames", image=frames, **taken))
    size: dict[str, Any] = {"upscale_method": "lanczos", "width": WIDTH, "height": HEIGHT, "crop": "center"}
    return graph.slot(graph.add("ImageScale", 2, "Video size", image=image, **size))


def demo_graph(task: Workflow) -> Graph:
    graph = Graph(f"demo_{task.name}")
    lora = add_demo_training(graph) if task is TRAIN else "pusa_demo_lora.safetensors"
    model = add_loader(graph, DEMO_FILES["model_name"], lora, DEMO_LORA_STRENGTH)
    loader = graph.add("PusaDemoLoader", 0)
    frames = [demo_frames(graph, task, given) for given in task.given]
    prompt = graph.slot(frames[0], 1) if frames else task.prompt
    links = add_prompts(graph, graph.slot(loader, 0), prompt, "")
    vae, images = graph.slot(loader, 1), [graph.slot(number) for number in frames]
    latent = add_latent(graph, task, vae, images, (64, 64))
    add_sampling(graph, vae, {"model": model, "latent": latent, **links})
    return graph


def user_graph(task: Workflow) -> Graph:
    graph = Graph(task.name)
    sampling: dict[str, float] = {}
    if task is WAN22:
        models, sampling = add_experts(graph), {"steps": 4, "cfg": 1.0}
    elif task is TRAIN:
        lora = add_training(graph, [T2V, VAE, TEXT_ENCODER])
        models = {"model": add_loader(graph, T2V["name"], lora, files=[T2V])}
    else:
        models = {"model": add_loader(graph, T2V["name"], PUSA_LORA["name"], files=[T2V, PUSA_LORA])}
    encoder = {"clip_name": TEXT_ENCODER["name"], "type": "wan"}
    clip = graph.slot(graph.add("CLIPLoader", 0, files=[TEXT_ENCODER], **encoder))
    vae = graph.slot(graph.add("VAELoader", 0, files=[VAE], vae_name=VAE["name"]))
    images = [user_frames(graph, given) for given in task.given]
    links = add_prompts(graph, clip, task.prompt if task.given else Workflow.prompt, AVOID)
    latent = add_latent(graph, task, vae, images, (WIDTH, HEIGHT))
    add_sampling(graph, vae, {"latent": latent, **models, **links}, **sampling)
    return graph


def add_experts(graph: Graph) -> dict[str, Slot]:
    """Wan2.2's two models, each with its Pusa LoRA and its 4-step LoRA."""
    models = {}
    for slot, level, strength in (("model", "high", 1.5), ("model_low", "low", 1.4)):
        dit, pusa, distilled = EXPERTS[level]
        loaded = add_loader(graph, dit["name"], pusa["name"], strength, f"{level.title()}-noise model", [dit, pusa])
        values = {"model": loaded, "lora_name": distilled["name"], "strength_model": 1.0}
        models[slot] = graph.slot(graph.add("LoraLoaderModelOnly", 0, f"4 steps, {level} noise", [distilled], **values))
    return models


def demo_note(task: Workflow) -> str:
    source = "*Pusa Demo Clip*" if any(g.length > 1 or g.first for g in task.given) else "*Pusa Demo Image*"
    knobs = [f"{source}: `seed` selects the scene and its prompt; use the same seed in all of these nodes."] * bool(
        task.given
    )
    strength = STRENGTH.format(usual=f"{DEMO_LORA_STRENGTH:g} for the demo model, 1.3 to 1.5 for the published LoRAs")
    knobs += [*task.knobs, strength, "*Pusa Sampler*: `seed` changes the video; `steps` (10 is enough); `cfg`."]
    return _note(
        f"{task.title}, with the demo model",
        f"This graph needs no downloads: press **Run**. {task.summary}",
        [
            "The demo model generates 81 frames of 64 x 64 pixels from prompts like `a [small|large] "
            "[red|green|blue|yellow|magenta|cyan] [square|diamond] moves [slowly|quickly] [left|right|up|down]`."
        ],
        knobs,
        f"**With a real model**: use the same graph in `{task.name}.json`.",
    )


def user_note(task: Workflow) -> str:
    models = [T2V] if task is TRAIN else [T2V, PUSA_LORA]
    if task is WAN22:
        models = [entry for level in EXPERTS.values() for entry in level]
    files = [f"- `{entry['directory']}`: [{entry['name']}]({entry['url']})" for entry in [*models, TEXT_ENCODER, VAE]]
    clips = [given for given in task.given if given.length > 1]
    knobs = [
        f"*Select frames* takes {given.length} frames of `{given.file}` starting at `batch_index`; use "
        f"{given.file_first} for a clip of 81 frames."
        for given in clips
    ]
    knobs += [*task.knobs, STRENGTH.format(usual="usually 1.3 to 1.5")]
    knobs += ["*Video size*: width and height divisible by 16, the same for all inputs."] if task.given else []
    again = f"**Without downloads**: `demo_{task.name}.json` does the same with the model included in this pack."
    if task is WAN22:
        again = "The Wan2.1 version of this graph is `image_to_video.json`."
    return _note(task.title, task.summary, ["**Files**, in ComfyUI's `models` folder:", *files], knobs, again)


def _note(title: str, summary: str, middle: list[str], knobs: list[str], end: str) -> str:
    listed = "\n".join(f"- {knob}" for knob in knobs)
    return "\n\n".join([f"## {title}", summary, "\n".join(middle), f"**Knobs**\n{listed}", end])


def documents() -> dict[str, str]:
    """The contents of all files by path in ``workflows/``."""
    drawn = [(demo_graph(task), demo_note(task)) for task in (*TASKS, TRAIN)]
    drawn += [(user_graph(task), user_note(task)) for task in (*TASKS, TRAIN, WAN22)]
    files = {}
    for graph, note in drawn:
        files[f"{graph.name}.json"] = dump(graph.page(note))
        files[f"api/{graph.name}.json"] = dump(graph.api())
    files["api/parameters.json"] = lines(table({graph.name: graph.api() for graph, _ in drawn}))
    return files


def lines(values: dict[str, dict[str, Any]]) -> str:
    """JSON with a line for each value of each task."""
    tasks = (
        f"{json.dumps(task)}: {{\n"
        + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in entries.items())
        + "\n }"
        for task, entries in values.items()
    )
    return "{\n " + ",\n ".join(tasks) + "\n}\n"


if __name__ == "__main__":
    for path, text in documents().items():
        (WORKFLOWS / path).write_text(text)
