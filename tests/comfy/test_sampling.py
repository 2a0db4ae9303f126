"""Graphs run by a real ComfyUI server."""

import pytest
import torch

from tools.comfy_client import ComfyClient

from ..support.graphs import (
    NATIVE,
    WITH_LORA,
    clip,
    image_to_video,
    keyframe,
    native_loader,
    node,
    parts,
    sampler,
    text_to_video,
)
from ..support.models import DIT


def test_text_to_video_is_deterministic_and_finite(comfy: ComfyClient) -> None:
    first = comfy.latent(text_to_video(), "video")
    assert first.shape == (1, 16, 3, 4, 4)
    assert first.isfinite().all()
    comfy.free()
    assert torch.equal(comfy.latent(text_to_video(), "video"), first)
    assert not torch.equal(comfy.latent(text_to_video(seed=8), "video"), first)


def test_given_frame_keeps_its_bits(comfy: ComfyClient) -> None:
    graph = image_to_video()
    video, given = comfy.latent(graph, "video"), comfy.latent(graph, "start")
    assert torch.equal(video[:, :, 0], given[:, :, 0])
    assert given[:, :, 0].any()
    assert not given[:, :, 1:].any()
    assert video[:, :, 1:].any()


def test_noised_frame_changes(comfy: ComfyClient) -> None:
    graph = image_to_video("0:0.3")
    video, given = comfy.latent(graph, "video"), comfy.latent(graph, "start")
    assert not torch.equal(video[:, :, 0], given[:, :, 0])


def test_start_and_end_frames(comfy: ComfyClient) -> None:
    graph = parts() | {"start": keyframe()}
    graph |= {"both": keyframe("other_picture", -1, latent=["start", 0]), "video": sampler("both")}
    video, given = comfy.latent(graph, "video"), comfy.latent(graph, "both")
    assert torch.equal(video[:, :, [0, 2]], given[:, :, [0, 2]])
    assert not given[:, :, 1].any() and video[:, :, 1].any()


def test_end_clip_ends_at_a_negative_position(comfy: ComfyClient) -> None:
    graph = parts() | {"clip": clip(8), "end": keyframe("clip", -1, length=17)}
    given = comfy.latent(graph, "end")  # 8 pixel frames are 2 of 5 latent frames
    assert [bool(given[:, :, frame].any()) for frame in range(5)] == [False, False, False, True, True]


def test_positions_in_pixel_frames(comfy: ComfyClient) -> None:
    """A picture at pixel frame 6 of 17 is given in latent frame 2, which holds 5 to 8; so is noise level p6."""
    graph = parts() | {"start": keyframe(position=6, length=17, position_counts="pixel frames")}
    graph["mask"] = node("PusaFrameMask", latent=["start", 0], noise_levels="p6:0.3")
    given = comfy.latent(graph, "mask")
    assert [bool(given[:, :, frame].any()) for frame in range(5)] == [False, False, True, False, False]
    by_latent = graph | {"start": keyframe(position=2, length=17)}
    by_latent["mask"] = node("PusaFrameMask", latent=["start", 0], noise_levels="2:0.3")
    videos = [comfy.latent(each | {"video": sampler("mask")}, "video") for each in (graph, by_latent)]
    assert torch.equal(*videos)


@pytest.mark.parametrize("graph", [text_to_video, image_to_video], ids=["text", "image"])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_native_model_gives_the_same_video(comfy: ComfyClient, graph, cfg: float) -> None:
    ours = graph(cfg=cfg)
    native = ours | {"model": NATIVE}
    difference = comfy.latent(ours, "video") - comfy.latent(native, "video")
    assert difference.abs().max() < 1e-3


def test_prefixed_names_load_alike(comfy: ComfyClient) -> None:
    graph = text_to_video()
    prefixed = graph | {"model": parts(model_name="test_prefixed.safetensors")["model"]}
    assert torch.equal(comfy.latent(graph, "video"), comfy.latent(prefixed, "video"))


def test_lora_changes_the_video_and_unloads(comfy: ComfyClient) -> None:
    without = comfy.latent(image_to_video(), "video")
    with_lora = comfy.latent(image_to_video(**WITH_LORA), "video")
    assert (with_lora - without).abs().max() > 1e-2
    assert torch.equal(comfy.latent(image_to_video(cfg=3.0), "video"), without)


def test_lora_equals_a_lora_node(comfy: ComfyClient) -> None:
    ours = image_to_video(**WITH_LORA)
    stacked = image_to_video()
    lora = {"lora_name": WITH_LORA["lora_name"], "strength_model": 1.4}
    stacked |= {"loaded": stacked["model"], "model": node("LoraLoaderModelOnly", model=["loaded", 0], **lora)}
    assert torch.allclose(comfy.latent(ours, "video"), comfy.latent(stacked, "video"), atol=1e-5)


def test_second_model_with_the_same_weights_changes_nothing(comfy: ComfyClient) -> None:
    one = comfy.latent(image_to_video(), "video")
    two = comfy.latent(image_to_video() | {"video": sampler("start", model_low=["model", 0], switch=0.875)}, "video")
    assert torch.allclose(one, two, atol=1e-4)


def test_batch_shares_the_given_frame(comfy: ComfyClient) -> None:
    graph = parts()
    graph["empty"]["inputs"]["batch_size"] = 2
    graph |= {"start": keyframe(latent=["empty", 0]), "video": sampler("start")}
    video = comfy.latent(graph, "video")
    assert video.shape[0] == 2
    assert torch.equal(video[0, :, 0], video[1, :, 0])
    assert not torch.equal(video[0, :, 1], video[1, :, 1])


@pytest.mark.parametrize("weight_dtype", ["fp8_e4m3fn", "fp8_e5m2"])
def test_eight_bit_weights_load_as_in_core(comfy: ComfyClient, weight_dtype: str) -> None:
    ours = image_to_video()
    ours["model"]["inputs"]["weight_dtype"] = weight_dtype
    native = ours | {"model": native_loader(DIT, weight_dtype)}
    video = comfy.latent(ours, "video")
    assert (video - comfy.latent(native, "video")).abs().max() < 1e-3
    assert (video - comfy.latent(image_to_video(), "video")).abs().max() > 1e-3
