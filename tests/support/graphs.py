"""Graphs in ComfyUI's API format, put together from parts."""

from typing import Any

from tools.comfy_client import Graph

from .models import DIT, LORA

SIZE, FRAMES = 32, 9  # pixels, pixel frames; 3 latent frames


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def parts(model_name: str = DIT, lora_name: str = "none", strength: float = 1.4) -> Graph:
    """Loaders, prompts, two pictures and an empty video, for other nodes to link to."""
    return {
        "model": node("PusaLoad", model_name=model_name, lora_name=lora_name, lora_strength=strength),
        "demo": node("PusaDemoLoader"),
        "positive": node("CLIPTextEncode", clip=["demo", 0], text="a small red square moves slowly left"),
        "negative": node("CLIPTextEncode", clip=["demo", 0], text=""),
        "picture": picture(0),
        "other_picture": picture(1),
        "empty": node("EmptyHunyuanLatentVideo", width=SIZE, height=SIZE, length=FRAMES, batch_size=1),
    }


def native_loader(name: str, weight_dtype: str = "default") -> dict[str, Any]:
    """ComfyUI's own loader of models."""
    return node("UNETLoader", unet_name=name, weight_dtype=weight_dtype)


def picture(seed: int, width: int = SIZE, height: int = SIZE) -> dict[str, Any]:
    """A picture of one colour."""
    color = (0x3366CC, 0xCC8833, 0x228822)[seed % 3]
    return node("EmptyImage", width=width, height=height, batch_size=1, color=color)


def clip(frames: int) -> dict[str, Any]:
    return node("EmptyImage", width=SIZE, height=SIZE, batch_size=frames, color=0x884422)


def keyframe(image: str = "picture", position: int = 0, length: int = FRAMES, **latent: Any) -> dict[str, Any]:
    return node("PusaEncodeKeyframes", vae=["demo", 1], image=[image, 0], position=position, length=length, **latent)


def sampler(latent: str, **changes: Any) -> dict[str, Any]:
    inputs = {
        "model": ["model", 0],
        "positive": ["positive", 0],
        "negative": ["negative", 0],
        "latent": [latent, 0],
        "seed": 7,
        "steps": 4,
        "cfg": 3.0,
        "shift": 5.0,
    }
    return node("PusaSampler", **{**inputs, **changes})


def ksampler(model: str, latent: str, /, **changes: Any) -> dict[str, Any]:
    """ComfyUI's own sampler, set to do what :func:`sampler` does if the model has shift 5."""
    inputs = {
        "model": [model, 0],
        "positive": ["positive", 0],
        "negative": ["negative", 0],
        "latent_image": [latent, 0],
        "seed": 7,
        "steps": 4,
        "cfg": 3.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "denoise": 1.0,
    }
    return node("KSampler", **{**inputs, **changes})


def text_to_video(**changes: Any) -> Graph:
    return {**parts(), "video": sampler("empty", **changes)}


def image_to_video(noise_levels: str | None = None, lora_name: str = "none", **changes: Any) -> Graph:
    """A video that starts with a picture; ``noise_levels`` adds a Frame Conditioning Mask."""
    graph = {**parts(lora_name=lora_name), "start": keyframe()}
    if noise_levels is None:
        return {**graph, "video": sampler("start", **changes)}
    mask = node("PusaFrameMask", latent=["start", 0], noise_levels=noise_levels)
    return {**graph, "mask": mask, "video": sampler("mask", **changes)}


WITH_LORA = {"lora_name": LORA}
NATIVE = native_loader(DIT)

CONTEXT_WINDOWS = node(
    "WanContextWindowsManual",
    model=["model", 0],
    context_length=17,
    context_overlap=4,
    context_schedule="standard_static",
    context_stride=1,
    closed_loop=False,
    fuse_method="pyramid",
    freenoise=True,  # this and the next only in newer versions
    retain_first_frame=False,
    split_conds_to_windows=False,
)

CHANGES = {
    "context windows": CONTEXT_WINDOWS,
    "step cache": node(
        "EasyCache", model=["model", 0], reuse_threshold=3.0, start_percent=0.0, end_percent=1.0, verbose=False
    ),
    "guidance": node("RescaleCFG", model=["model", 0], multiplier=1.0),
    "skipped layers": node(
        "SkipLayerGuidanceDiT",
        model=["model", 0],
        double_layers="1",
        single_layers="",
        scale=3.0,
        start_percent=0.0,
        end_percent=1.0,
        rescaling_scale=0.0,
    ),
    "skipped layers, negative only": node(
        "SkipLayerGuidanceDiTSimple",
        model=["model", 0],
        double_layers="0",
        single_layers="",
        start_percent=0.0,
        end_percent=1.0,
    ),
    "positions": node(
        "ScaleROPE",
        model=["model", 0],
        **{f"scale_{axis}": scale for axis, scale in zip("xyt", (0.5, 0.7, 0.4), strict=True)},
        **{f"shift_{axis}": shift for axis, shift in zip("xyt", (1.0, 2.0, 3.0), strict=True)},
    ),
    "second LoRA": node("LoraLoaderModelOnly", model=["model", 0], lora_name=LORA, strength_model=-0.7),
}
"""Core nodes that change what a MODEL computes."""
