"""Conditionings made for other models are refused on every path into sampling, and the advice of each message works."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tools.comfy_client import ComfyClient, Graph, RunFailed
from tools.comfyui import PACK

from ..support.graphs import FRAMES, NATIVE, SIZE, keyframe, ksampler, node, parts, sampler

PROMPTS = {"positive": ["positive", 0], "negative": ["negative", 0]}
VIDEO = {"vae": ["demo", 1], "width": SIZE, "height": SIZE, "length": FRAMES, "batch_size": 1}
PERCENTAGES = {"start_percent", "end_percent", "fps"}
"""Entries that change nothing of what a text-to-video model reads; fps comes with a sound track."""


def paths(positive: str, negative: str, latent: str) -> dict[str, Graph]:
    """Every way into sampling, with outputs 0 and 1 of the nodes ``positive`` and ``negative``."""
    prompts = {"positive": [positive, 0], "negative": [negative, int(negative == positive)]}
    native = {"model": NATIVE, "patched": node("PusaPatchModel", model=["model", 0])}
    custom = {
        "noise": node("RandomNoise", noise_seed=7),
        "guider": node("CFGGuider", model=["model", 0], cfg=3.0, **prompts),
        "euler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="simple", steps=4, denoise=1.0),
    }
    links = {"noise": ["noise", 0], "guider": ["guider", 0], "sampler": ["euler", 0], "sigmas": ["sigmas", 0]}
    advanced = {"noise_seed": 7, "steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple"}
    advanced |= {"start_at_step": 0, "end_at_step": 4, "add_noise": "enable", "return_with_leftover_noise": "disable"}
    return {
        "Pusa Sampler": {"video": sampler(latent, **prompts)},
        "KSampler": {"video": ksampler("model", latent, **prompts)},
        "KSamplerAdvanced": {
            "video": node("KSamplerAdvanced", model=["model", 0], latent_image=[latent, 0], **prompts, **advanced)
        },
        "SamplerCustomAdvanced": {**custom, "video": node("SamplerCustomAdvanced", latent_image=[latent, 0], **links)},
        "KSampler, native and patched": {**native, "video": ksampler("patched", latent, **prompts)},
    }


PATHS = list(paths("positive", "negative", "start"))

FOREIGN = {
    "concat_latent_image": {"foreign": node("WanImageToVideo", start_image=["picture", 0], **PROMPTS, **VIDEO)},
    "vace_frames": {"foreign": node("WanVaceToVideo", control_video=["picture", 0], strength=1.0, **PROMPTS, **VIDEO)},
    "camera_conditions": {
        "pose": node("WanCameraEmbedding", camera_pose="Pan Up", width=SIZE, height=SIZE, length=FRAMES),
        "foreign": node("WanCameraImageToVideo", camera_conditions=["pose", 0], **PROMPTS, **VIDEO),
    },
    "control_video": {"foreign": node("WanSoundImageToVideo", ref_image=["picture", 0], **PROMPTS, **VIDEO)},
    "time_dim_concat": {"foreign": node("WanPhantomSubjectToVideo", images=["picture", 0], **PROMPTS, **VIDEO)},
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", FOREIGN)
def test_a_conditioning_for_another_wan_model_is_refused(comfy: ComfyClient, key: str, path: str) -> None:
    graph = parts() | {"start": keyframe()} | FOREIGN[key]
    message = rf"(positive|negative) carries .* \({key}\), meant for another Wan model; connect a plain text prompt"
    with pytest.raises(RunFailed, match=message):
        comfy.latent(graph | paths("foreign", "foreign", "start")[path], "video")


@pytest.mark.parametrize("path", PATHS)
def test_reference_pictures_on_one_prompt_are_refused_by_its_name(comfy: ComfyClient, path: str) -> None:
    graph = parts() | {"start": keyframe()}
    graph["referring"] = node("ReferenceLatent", conditioning=["negative", 0], latent=["start", 0])
    with pytest.raises(RunFailed, match=re.escape("negative carries reference pictures (reference_latents)")):
        comfy.latent(graph | paths("positive", "referring", "start")[path], "video")


@pytest.mark.parametrize("path", PATHS)
def test_a_plain_prompt_and_a_keyframe_as_the_message_says_work(comfy: ComfyClient, path: str) -> None:
    graph = parts() | {"start": keyframe()} | paths("positive", "negative", "start")[path]
    video = comfy.latent(graph, "video")
    assert torch.equal(video[:, :, 0], comfy.latent(graph, "start")[:, :, 0])


@pytest.fixture(scope="module")
def conditioning() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conditioning", PACK / "nodes" / "comfyui" / "conditioning.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_that_core_nodes_for_wan_add_is_known(comfyui: Path, conditioning: ModuleType) -> None:
    source = "".join(path.read_text() for path in (comfyui / "comfy_extras").glob("nodes_wan*.py"))
    added = {key for entry in re.findall(r"conditioning_set_values\(.*?(\{.*?\})", source) for key in keys_of(entry)}
    assert len(added) > 8
    assert added - PERCENTAGES <= conditioning.FOREIGN.keys()


def keys_of(entry: str) -> list[str]:
    return re.findall(r'[{,]\s*"(\w+)":', entry)


def test_a_text_embedding_of_another_encoder_is_refused(conditioning: ModuleType) -> None:
    message = r"positive is a text embedding of shape \[1, 77, 768\]; .* umt5-xxl text encoder"
    with pytest.raises(ValueError, match=message):
        conditioning.check_conditionings({"positive": [{"cross_attn": torch.zeros(1, 77, 768)}]})
    conditioning.check_conditionings({"positive": [{"cross_attn": torch.zeros(1, 512, 4096)}]})
