"""A mask gives areas within frames noise levels of their own, which every sampler follows."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tools.comfy_client import ComfyClient, Graph, RunFailed

from ..support.graphs import CHANGES, NATIVE, SIZE, clip, keyframe, ksampler, node, parts, sampler
from .test_lost_pictures import logged
from .test_parity import sample_with_core

MODELS = ["pusa", "native, patched"]
HALF = SIZE // 2  # one of 2 x 2 tokens in a frame, and 2 of 4 latents
STEPS = 4


def rectangle(width: int, height: int, x: int = 0, y: int = 0, value: float = 1.0) -> Graph:
    """A MASK that is white in a rectangle, by ComfyUI's own nodes."""
    return {
        "black": node("SolidMask", value=0.0, width=SIZE, height=SIZE),
        "white": node("SolidMask", value=value, width=width, height=height),
        "area": node("MaskComposite", destination=["black", 0], source=["white", 0], x=x, y=y, operation="add"),
    }


def region(
    area: Graph | None = None, length: int = 9, levels: str = "0--1:0", model: str = "pusa", **settings: Any
) -> Graph:
    """A clip of which the left half is made anew."""
    graph = parts() | {"clip": clip(length), "whole": keyframe("clip", length=length)}
    graph |= rectangle(HALF, SIZE) if area is None else area
    changes: dict[str, Any] = {"mask": ["area", 0], **settings}
    graph["given"] = node("PusaFrameMask", latent=["whole", 0], noise_levels=levels, **changes)
    if model.startswith("native"):
        graph |= {"model": NATIVE, "patched": node("PusaPatchModel", model=["shifted", 0])}
    graph["shifted"] = node("ModelSamplingSD3", model=["model", 0], shift=5.0)
    return graph


def core(model: str = "pusa", **changes: Any) -> dict[str, Any]:
    """KSampler as Pusa Sampler samples."""
    return ksampler("shifted" if model == "pusa" else "patched", "given", steps=STEPS, **changes)


def expected(comfy: ComfyClient, graph: Graph, levels: Tensor, **settings: Any) -> Tensor:
    return sample_with_core(comfy.latent(graph, "whole"), levels, 0.0, cfg=3.0, seed=7, steps=STEPS, **settings)


def halves(frames: int, left: float = 1.0, right: float = 0.0) -> Tensor:
    return torch.tensor([left, right]).expand(frames, 2, 2)


@pytest.mark.parametrize("model", MODELS)
def test_an_area_is_made_anew_and_the_rest_keeps_its_bits(comfy: ComfyClient, model: str) -> None:
    graph = region(model=model)
    graph |= {"ours": sampler("given", steps=STEPS, model=["model", 0]), "core": core(model)}
    given = comfy.latent(graph, "whole")
    reference = expected(comfy, graph, halves(3))
    for name in ("ours", "core"):
        video = comfy.latent(graph, name)
        assert torch.equal(video[..., 2:], given[..., 2:])
        assert not (video[..., :2] == given[..., :2]).any(dim=1).any()
        assert (video - reference).abs().max() < 1e-3, name


def test_the_levels_of_areas_matter(comfy: ComfyClient) -> None:
    """As far from those of whole frames as the agreement above could hide."""
    graph = region()
    reference = expected(comfy, graph, halves(3))
    assert (reference - expected(comfy, graph, halves(3, 1.0, 1.0)))[..., :2].abs().max() > 0.1


def test_greys_and_the_level_of_white_give_levels_in_between(comfy: ComfyClient) -> None:
    graph = region(rectangle(HALF, SIZE, value=0.4), mask_level=0.5) | {"video": sampler("given", steps=STEPS)}
    assert (comfy.latent(graph, "video") - expected(comfy, graph, halves(3, 0.2))).abs().max() < 1e-3


def test_a_mask_for_each_frame_changes_over_time(comfy: ComfyClient) -> None:
    """White in the left half from pixel frame 5 on, that is, from latent frame 2."""
    graph = region(rectangle(HALF, SIZE)) | {
        "dark": node("EmptyImage", width=SIZE, height=SIZE, batch_size=5, color=0),
        "picture_of_area": node("MaskToImage", mask=["area", 0]),
        "light": node("RepeatImageBatch", image=["picture_of_area", 0], amount=4),
        "pictures": node("ImageBatch", image1=["dark", 0], image2=["light", 0]),
        "moving": node("ImageToMask", image=["pictures", 0], channel="red"),
    }
    graph["given"]["inputs"]["mask"] = ["moving", 0]
    graph["video"] = sampler("given", steps=STEPS)
    levels = halves(3).clone()
    levels[:2] = 0.0
    assert (comfy.latent(graph, "video") - expected(comfy, graph, levels)).abs().max() < 1e-3


def test_frames_and_areas_have_levels_at_once(comfy: ComfyClient) -> None:
    graph = region(levels="0:0.3, 1:0, 2:1") | {"video": sampler("given", steps=STEPS)}
    levels = torch.stack([halves(1, 1.0, right)[0] for right in (0.3, 0.0, 1.0)])
    assert (comfy.latent(graph, "video") - expected(comfy, graph, levels)).abs().max() < 1e-3


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("change", ["context windows", "skipped layers", "second LoRA"])
def test_what_core_nodes_change_is_kept(comfy: ComfyClient, change: str, model: str) -> None:
    graph = region(length=33, model=model) | {"changed": CHANGES[change]}
    graph["shifted"]["inputs"]["model"] = ["changed", 0]
    graph |= {"core": core(model), "ours": sampler("given", steps=STEPS, model=["changed", 0])}
    video, given = comfy.latent(graph, "core"), comfy.latent(graph, "whole")
    assert (video - comfy.latent(graph, "ours")).abs().max() < 1e-3
    assert torch.equal(video[..., 2:], given[..., 2:])
    plain = comfy.latent(graph | {"plain": sampler("given", steps=STEPS, model=["model", 0])}, "plain")
    assert (video - plain).abs().max() > 1e-4


@pytest.mark.parametrize("model", MODELS)
def test_two_stages_give_what_one_gives(comfy: ComfyClient, model: str) -> None:
    graph = region(model=model) | {"core": core(model)}
    settings = {key: value for key, value in core(model)["inputs"].items() if key not in ("seed", "denoise")}
    for name, first, last, latent in (("high", 0, 2, "given"), ("low", 2, STEPS, "high")):
        stage = {"start_at_step": first, "end_at_step": last, "add_noise": "disable" if first else "enable"}
        stage |= {"return_with_leftover_noise": "disable" if first else "enable", "latent_image": [latent, 0]}
        graph[name] = node("KSamplerAdvanced", **{**settings, **stage, "noise_seed": 7})
    assert (comfy.latent(graph, "low") - comfy.latent(graph, "core")).abs().max() < 1e-4


@pytest.mark.parametrize("refresh", [0, 2])
def test_given_tokens_are_cached_as_in_pusa_core(comfy: ComfyClient, refresh: int) -> None:
    graph = region() | {"video": sampler("given", steps=STEPS, given_frames_refresh=refresh)}
    video, exact = comfy.latent(graph, "video"), expected(comfy, graph, halves(3))
    assert (video - expected(comfy, graph, halves(3), refresh=refresh)).abs().max() < 1e-3
    assert (video - exact).abs().max() > 1e-5  # or the agreement would prove nothing


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_follows_a_mask_after_levels_of_frames(comfy: ComfyClient) -> None:
    graph = region()
    graph["compiled"] = node("TorchCompileModel", model=["shifted", 0], backend="inductor")
    for latent in ("whole", "given"):
        videos = [
            comfy.latent(graph | {"core": ksampler(model, latent, steps=STEPS)}, "core")
            for model in ("shifted", "compiled")
        ]
        assert (videos[0] - videos[1]).abs().max() < 1e-3


def test_a_keyframe_and_another_mask_may_follow(comfy: ComfyClient) -> None:
    graph = parts() | {"clip": clip(5), "start": keyframe("clip")} | rectangle(HALF, SIZE)
    graph["first"] = node("PusaFrameMask", latent=["start", 0], noise_levels="", mask=["area", 0])
    graph["whole"] = keyframe("other_picture", -1, latent=["first", 0])
    graph |= {"lower": node("SolidMask", value=0.0, width=SIZE, height=SIZE)}
    graph["below"] = node("MaskComposite", destination=["lower", 0], source=["half", 0], x=0, y=HALF, operation="add")
    graph["half"] = node("SolidMask", value=1.0, width=SIZE, height=HALF)
    graph["given"] = node("PusaFrameMask", latent=["whole", 0], noise_levels="", mask=["below", 0], mask_level=0.3)
    graph["video"] = sampler("given", steps=STEPS)
    levels = torch.tensor([[1.0, 0.0], [0.3, 0.3]]).expand(3, 2, 2).clone()
    levels[2, 0] = 0.0
    assert (comfy.latent(graph, "video") - expected(comfy, graph, levels)).abs().max() < 1e-3


def test_a_mask_of_another_size_covers_the_video(comfy: ComfyClient) -> None:
    """As pictures do: of 64 x 128 pixels, the upper and lower quarter are cut off."""
    mask = rectangle(HALF, SIZE)
    mask["black"] = node("SolidMask", value=0.0, width=64, height=128)
    mask["white"] = node("SolidMask", value=1.0, width=30, height=128)
    videos = [
        comfy.latent(region(each) | {"video": sampler("given", steps=STEPS)}, "video")
        for each in (mask, rectangle(HALF, SIZE))
    ]
    assert torch.equal(*videos)


def test_the_timeline_shows_the_area(comfy: ComfyClient) -> None:
    pictures = []
    for mask in (rectangle(HALF, SIZE), rectangle(HALF, SIZE, HALF)):
        outputs = comfy.run(region(mask) | {"seen": node("PreviewImage", images=["given", 1])})
        pictures.append(comfy.file(outputs["seen"]["images"][0]))
    assert pictures[0] != pictures[1] and all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_a_mask_of_another_length_is_refused(comfy: ComfyClient) -> None:
    pictures = node("EmptyImage", width=SIZE, height=SIZE, batch_size=4, color=0)
    mask = {"pictures": pictures, "area": node("ImageToMask", image=["pictures", 0], channel="red")}
    with pytest.raises(RunFailed, match="the mask has 4 pictures; give one, or one for each of the 9 frames"):
        comfy.latent(region(mask), "given")


def test_a_black_mask_is_reported(comfy: ComfyClient, server_base: Path) -> None:
    """Load Image gives one with every picture that has no transparent part."""
    Image.new("RGB", (SIZE, SIZE)).save(server_base / "input" / "opaque.png")
    graph = region({"file": node("LoadImage", image="opaque.png")}, mask=["file", 1])
    with logged(server_base) as lines:
        video = comfy.latent(graph | {"video": sampler("given")}, "video")
    assert torch.equal(video, comfy.latent(graph, "whole"))
    assert any("mask is black, so it changes nothing" in line for line in lines)


def test_what_is_painted_in_the_mask_editor_is_made_anew(comfy: ComfyClient, server_base: Path) -> None:
    """The editor stores it as the transparent part of the picture."""
    picture = Image.new("RGBA", (SIZE, SIZE), "white")
    picture.paste((0, 0, 0, 0), (0, 0, HALF, SIZE))
    picture.save(server_base / "input" / "painted.png")
    painted = region({"file": node("LoadImage", image="painted.png")}, mask=["file", 1])
    videos = [comfy.latent(graph | {"video": sampler("given")}, "video") for graph in (painted, region())]
    assert torch.equal(*videos)
