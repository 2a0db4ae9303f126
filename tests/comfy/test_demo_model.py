"""The embedded model's image-to-video three ways: pusa_core, Pusa Load, and ComfyUI's own loaders."""

import copy
import json

import pytest
import torch

from demo.clips import draw_scene
from pusa_core import load_lora, merge_lora
from pusa_core.media.demo_text import encode_text
from pusa_core.media.vae import WanVae
from pusa_core.sampling.pipeline import Keyframe, Settings, encode_keyframes, generate_latents
from pusa_core.weights.demo_files import DIT, LORA, VAE
from tools.comfy_client import ComfyClient, Graph
from tools.comfyui import PACK

from ..support.graphs import native_loader, node


@pytest.fixture(scope="module")
def graph() -> Graph:
    return json.loads((PACK / "workflows" / "api" / "demo_image_to_video.json").read_text())


def only(graph: Graph, class_type: str) -> str:
    (key,) = (key for key, value in graph.items() if value["class_type"] == class_type)
    return key


@pytest.fixture(scope="module")
def settings(graph: Graph) -> Settings:
    inputs = graph[only(graph, "PusaSampler")]["inputs"]
    return Settings(64, 64, 81, inputs["steps"], inputs["cfg"], inputs["shift"], inputs["seed"])


@pytest.fixture(scope="module")
def expected(demo_model, graph: Graph, settings: Settings) -> torch.Tensor:
    """What the graph computes, from ``pusa_core`` alone: raw VAE latents."""
    model, vae = demo_model(), WanVae(VAE)
    merge_lora(model, load_lora(LORA), graph[only(graph, "PusaLoad")]["inputs"]["lora_strength"])
    scene = draw_scene(graph[only(graph, "PusaDemoImage")]["inputs"]["seed"])
    given = encode_keyframes(vae, [Keyframe(torch.from_numpy(scene.render([0])))], settings)
    latents = generate_latents(model, given, encode_text(scene.caption), encode_text(""), settings)
    return latents * vae.std + vae.mean


def with_native_loaders(graph: Graph) -> Graph:
    """The graph with Load Diffusion Model and Load LoRA in place of Pusa Load."""
    load = graph[only(graph, "PusaLoad")]["inputs"]
    unet = native_loader(DIT.name)
    lora = node("LoraLoaderModelOnly", model=["unet", 0], lora_name=LORA.name, strength_model=load["lora_strength"])
    others = {key: value for key, value in graph.items() if key != only(graph, "PusaLoad")}
    key = only(graph, "PusaSampler")
    sampler = {**graph[key], "inputs": {**graph[key]["inputs"], "model": ["lora", 0]}}
    return others | {"unet": unet, "lora": lora, key: sampler}


@pytest.mark.parametrize("loaders", ["pusa", "native"])
def test_one_result_three_ways(comfy: ComfyClient, graph: Graph, expected: torch.Tensor, loaders: str) -> None:
    graph = graph if loaders == "pusa" else with_native_loaders(graph)
    latents = comfy.latent(graph, only(graph, "PusaSampler"))
    assert (latents - expected).abs().max() < 1e-3


def test_the_lora_matters(comfy: ComfyClient, graph: Graph, expected: torch.Tensor) -> None:
    """With the LoRA at strength 0 the result must be another one, or the agreement above would prove nothing."""
    graph = copy.deepcopy(graph)
    graph[only(graph, "PusaLoad")]["inputs"]["lora_strength"] = 0.0
    assert (comfy.latent(graph, only(graph, "PusaSampler")) - expected).abs().max() > 0.1
