"""Pictures and noise levels that would be lost on the way: refused, repaired, or said in the log."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tools.comfy_client import ComfyClient, Graph, PromptRefused, RunFailed

from ..support.graphs import clip, image_to_video, keyframe, ksampler, node, parts, sampler, text_to_video
from ..support.models import DIT, LORA

IGNORED = "holds pictures, but every frame's noise level is 1"
NO_LORA = "without a Pusa LoRA given frames are hardly followed"
NOT_GIVEN = "noise_levels sets latent frame 1 to 0.3, but no picture is there"


@contextmanager
def logged(base: Path) -> Iterator[list[str]]:
    """What the server logs meanwhile."""
    log, lines = base / "server.log", []
    before = len(log.read_text(errors="replace"))
    yield lines
    lines += log.read_text(errors="replace")[before:].splitlines()


def encoded() -> Graph:
    return parts() | {"clip": clip(9), "start": node("VAEEncode", pixels=["clip", 0], vae=["demo", 1])}


def twice() -> Graph:
    return text_to_video() | {"again": sampler("video")}


def through_ksampler() -> Graph:
    patch = node("PusaPatchModel", model=["model", 0])
    return encoded() | {"patched": patch, "video": ksampler("patched", "start")}


def composite() -> Graph:
    graph = encoded()
    links = {"samples_to": ["empty", 0], "samples_from": ["start", 0]}
    return graph | {"both": node("LatentComposite", **links, x=0, y=0, feather=0)}


@pytest.mark.parametrize(
    ("graph", "last"),
    [
        (encoded() | {"video": sampler("start")}, "video"),
        (twice(), "again"),
        (composite() | {"video": sampler("both")}, "video"),
        (
            encoded() | {"patched": node("PusaPatchModel", model=["model", 0]), "video": ksampler("patched", "start")},
            "video",
        ),
    ],
    ids=["VAE Encode", "two samplers", "LatentComposite", "KSampler"],
)
def test_pictures_that_are_not_used_are_said(comfy: ComfyClient, server_base: Path, graph: Graph, last: str) -> None:
    with logged(server_base) as lines:
        comfy.latent(graph, last)
    assert sum(IGNORED in line for line in lines) == 1


def test_nothing_is_said_where_nothing_is_lost(comfy: ComfyClient, server_base: Path) -> None:
    graph = image_to_video(seed=91)
    patched = {"patched": node("PusaPatchModel", model=["model", 0]), "core": ksampler("patched", "start", seed=91)}
    half = {"half": ksampler("patched", "encoded", seed=91, denoise=0.5)}
    with logged(server_base) as lines:
        for each, last in ((graph, "video"), (graph | patched, "core"), (text_to_video(seed=91), "video")):
            comfy.latent(each, last)
        both = encoded()
        comfy.latent({**both, **patched, "encoded": both["start"], **half}, "half")
    assert not [line for line in lines if IGNORED in line or "noise_levels sets" in line]


def test_the_advice_about_unused_pictures_works(comfy: ComfyClient, server_base: Path) -> None:
    graph = encoded() | {"mask": node("PusaFrameMask", latent=["start", 0], noise_levels="0-2:0")}
    with logged(server_base) as lines:
        video = comfy.latent(graph | {"video": sampler("mask")}, "video")
    assert torch.equal(video, comfy.latent(graph, "start"))
    assert not any(IGNORED in line for line in lines)


def test_a_mask_node_says_that_a_frame_is_not_given(comfy: ComfyClient, server_base: Path) -> None:
    graph = image_to_video("0:0.2, 1:0.3")
    with logged(server_base) as lines, pytest.raises(RunFailed, match="no picture there"):
        comfy.latent(graph, "video")
    assert sum(NOT_GIVEN in line for line in lines) == 1
    graph["second"] = keyframe("other_picture", 1, latent=["start", 0])  # as both messages say
    graph["mask"]["inputs"]["latent"] = ["second", 0]
    with logged(server_base) as lines:
        comfy.latent(graph, "video")
    assert not any("noise_levels sets" in line for line in lines)


def cut(node_name: str) -> Graph:
    """A LATENT of which a core node has changed the frames, but not the mask."""
    graph = parts() | {"first": keyframe(), "both": keyframe("other_picture", -1, latent=["first", 0])}
    area = node("SolidMask", value=0.5, width=32, height=32)
    cuts = {
        "TrimVideoLatent": node("TrimVideoLatent", samples=["both", 0], trim_amount=1),
        "LatentCut": node("LatentCut", samples=["both", 0], dim="t", index=1, amount=2),
        "LatentConcat": node("LatentConcat", samples1=["both", 0], samples2=["both", 0], dim="t"),
        "SetLatentNoiseMask": node("SetLatentNoiseMask", samples=["both", 0], mask=["area", 0]),
    }
    return graph | {"area": area, "cut": cuts[node_name]}


@pytest.mark.parametrize("name", ["TrimVideoLatent", "LatentCut", "LatentConcat", "SetLatentNoiseMask"])
def test_the_node_that_cut_is_named_and_the_advice_repairs_it(comfy: ComfyClient, server_base: Path, name: str) -> None:
    graph = cut(name)
    message = rf"such as .*{name}.*; set the noise levels again with Frame Conditioning Mask, behind that node"
    with pytest.raises(RunFailed, match=message):
        comfy.latent(graph | {"video": sampler("cut")}, "video")
    graph["mask"] = node("PusaFrameMask", latent=["cut", 0], noise_levels="-1:0")
    with logged(server_base) as lines:
        video = comfy.latent(graph | {"video": sampler("mask")}, "video")
    assert torch.equal(video[:, :, -1], comfy.latent(graph, "cut")[:, :, -1])
    assert any("The noise levels are set anew" in line for line in lines)


def report_of(comfy: ComfyClient, model_name: str, lora_name: str) -> str:
    graph = {"model": parts(model_name, lora_name)["model"], "text": node("PreviewAny", source=["model", 1])}
    return comfy.run(graph)["text"]["text"][0]


def test_a_model_without_a_lora_is_reported(comfy: ComfyClient, server_base: Path) -> None:
    models = server_base / "models" / "diffusion_models"
    with logged(server_base) as lines:
        assert NO_LORA in report_of(comfy, "test_prefixed.safetensors", "none")
    assert any(NO_LORA in line for line in lines)
    assert NO_LORA not in report_of(comfy, DIT, LORA)  # as the message says
    (models / "my_Pusa_14B.safetensors").symlink_to(models / DIT)
    assert NO_LORA not in report_of(comfy, "my_Pusa_14B.safetensors", "none")


def test_the_message_of_a_mask_comes_once(comfy: ComfyClient) -> None:
    with pytest.raises(PromptRefused) as refused:
        comfy.latent(image_to_video("0=0.3"), "video")
    assert len(re.findall("noise_levels", str(refused.value))) == 1
