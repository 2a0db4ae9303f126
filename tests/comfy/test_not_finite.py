"""A video that is not finite is an error, and so is an input that is not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tools.comfy_client import ComfyClient, Graph, RunFailed

from ..support.graphs import image_to_video, ksampler, node, parts, sampler, text_to_video
from ..support.models import CONFIG, DIT, LORA

HUGE = "huge.safetensors"


@pytest.fixture(scope="module", autouse=True)
def huge_lora(server_base: Path) -> None:
    """A LoRA of finite factors with which no video is finite."""
    name = "diffusion_model.blocks.0.ffn.2.lora_{}.weight"
    tensors = {
        name.format("A"): torch.full((2, CONFIG.ffn_dim), 1e19),
        name.format("B"): torch.full((CONFIG.dim, 2), 1e19),
    }
    save_file(tensors, server_base / "models" / "loras" / HUGE)


def ours(strength: float) -> Graph:
    return image_to_video() | {"model": parts(lora_name=HUGE, strength=strength)["model"]}


def patched(strength: float) -> Graph:
    graph = ours(strength) | {"patched": node("PusaPatchModel", model=["model", 0])}
    return graph | {"video": ksampler("patched", "start")}


def native(strength: float) -> Graph:
    graph = patched(strength) | {"loaded": node("UNETLoader", unet_name=DIT, weight_dtype="default")}
    lora = {"lora_name": HUGE, "strength_model": strength}
    return graph | {"model": node("LoraLoaderModelOnly", model=["loaded", 0], **lora)}


def second_model(strength: float) -> Graph:
    graph = image_to_video() | {"low": parts(lora_name=HUGE, strength=strength)["model"]}
    return graph | {"video": sampler("start", model_low=["low", 0], switch=0.875)}


OURS = f"{DIT}, LoRA {HUGE} at strength 1"
CASES = {
    "Pusa Sampler": (ours, f"from step 1 of 4 on, computed by {OURS}"),
    "Pusa Sampler, model_low": (second_model, f"from step 3 of 4 on, computed by {OURS}"),
    "KSampler": (patched, f"from step 1 of 4 on, computed by {OURS}"),
    "KSampler, native": (native, "from step 1 of 4 on, computed by the MODEL (WAN21, 1 weights changed by LoRA nodes)"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_error_names_model_lora_and_step(comfy: ComfyClient, case: str) -> None:
    graph, message = CASES[case]
    with pytest.raises(RunFailed) as failed:
        comfy.latent(graph(1.0), "video")
    assert message in str(failed.value)


def test_a_lower_strength_as_the_message_says_helps(comfy: ComfyClient) -> None:
    assert comfy.latent(ours(0.0), "video").isfinite().all()


def test_another_lora_as_the_message_says_helps(comfy: ComfyClient) -> None:
    assert comfy.latent(image_to_video(lora_name=LORA), "video").isfinite().all()


def load_with(value: float) -> Graph:
    return text_to_video() | {"model": parts(lora_name=HUGE, strength=value)["model"]}


INPUTS: dict[str, Any] = {
    "cfg": lambda value: text_to_video(cfg=value),
    "shift": lambda value: text_to_video(shift=value),
    "switch": lambda value: text_to_video(model_low=["model", 0], switch=value),
    "lora_strength": load_with,
}


@pytest.mark.parametrize("name", INPUTS)
def test_nan_as_an_input_is_refused_by_name(comfy: ComfyClient, name: str) -> None:
    """JSON has no NaN, but Python reads it, and no limit of ComfyUI's refuses it."""
    with pytest.raises(RunFailed, match=f"{name} is nan; it must be a number from"):
        comfy.latent(INPUTS[name](float("nan")), "video")
