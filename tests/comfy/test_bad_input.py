"""Every bad input is refused with a message that names it and says what to do."""

import re

import pytest

from tools.comfy_client import ComfyClient, Graph, PromptRefused, RunFailed

from ..support.graphs import NATIVE, clip, image_to_video, keyframe, node, parts, picture, sampler, text_to_video


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (image_to_video("0=0.3"), 'noise_levels - noise level entry "0=0.3" is not FRAME:LEVEL'),
        (image_to_video("0:1.5"), "1.5 is outside 0"),
        (image_to_video("0:0.3, 0:0.4"), "contradict"),
        (parts() | {"start": keyframe(length=10), "video": sampler("start")}, "length - 10 frames"),
        (text_to_video(steps=0), "Value 0 smaller than min of 1"),
        (text_to_video(switch=2.0), "Value 2.0 bigger than max of 1.0"),
    ],
)
def test_refused_before_the_queue(comfy: ComfyClient, graph: Graph, message: str) -> None:
    with pytest.raises(PromptRefused, match=re.escape(message)):
        comfy.latent(graph, "video")


def bad_model(name: str) -> Graph:
    return text_to_video() | {"model": parts(model_name=name)["model"]}


def bad_lora(name: str) -> Graph:
    return text_to_video() | {"model": parts(lora_name=name)["model"]}


def with_latent(**latent: dict) -> Graph:
    return parts() | latent | {"video": sampler(list(latent)[-1])}


def loaded(name: str) -> dict:
    return node("LoadLatent", latent=name)


RUNS: list[tuple[Graph, str]] = [
    (bad_model("bad_not_wan.safetensors"), "is not a Wan video model"),
    (bad_model("bad_truncated.safetensors"), "cannot be read as a weight file"),
    (bad_model("bad_text.safetensors"), "cannot be read as a weight file"),
    (bad_lora("bad_other_names.safetensors"), "no layer of the LoRA exists in the model"),
    (bad_lora("bad_other_size.safetensors"), "made for a model of another size"),
    (bad_lora("bad_no_lora.safetensors"), "holds no LoRA of a known form"),
    (with_latent(file=loaded("nan.latent")), "latent contains NaN"),
    (with_latent(file=loaded("wan22_5b.latent")), "latent has shape [1, 48, 3, 4, 4]"),
    (with_latent(file=loaded("odd.latent")), "latent is for a video of 40 x 32 pixels"),
    (
        with_latent(start=keyframe(), cut=node("TrimVideoLatent", samples=["start", 0], trim_amount=1)),
        "noise_mask of shape [1, 1, 3, 1, 1], which is not one noise level for each of its 2 latent frames",
    ),
    (image_to_video("5:0.3"), "latent frame 5 does not exist; there are 3"),
    (with_latent(four=node("EmptyLatentImage", width=32, height=32, batch_size=1)), "latent has shape [1, 4, 4, 4]"),
    (with_latent(mask=node("PusaFrameMask", latent=["empty", 0], noise_levels="1:0.3")), "no picture there"),
    (
        with_latent(
            area=node("SolidMask", value=0.5, width=32, height=32),
            masked=node("SetLatentNoiseMask", samples=["empty", 0], mask=["area", 0]),
        ),
        "which is not one noise level for each of its 3 latent frames",
    ),
    (
        with_latent(odd=picture(0, 40, 32), start=keyframe("odd", resize="refuse")),
        "image is 40 x 32 and the video 32 x 32; resize the picture to 32 x 32",
    ),
    (
        with_latent(large=picture(0, 64, 64), start=keyframe("large", latent=["empty", 0], resize="refuse")),
        "resize the picture to 32 x 32",
    ),
    (with_latent(start=keyframe(position=3)), "position 3 does not exist"),
    (
        with_latent(clip=clip(20), start=keyframe("clip", -1)),
        "a clip of 5 latent frames does not fit a video of 3; shorten it",
    ),
    (with_latent(clip=clip(8), start=keyframe("clip", 2)), "a clip of 2 latent frames at latent frame 2 does not fit"),
    (
        with_latent(clip=clip(4), start=keyframe("clip", 2, position_counts="pixel frames")),
        "a clip cannot begin at pixel frame 2, in the middle of a latent frame (1 to 4); use 1",
    ),
    (with_latent(start=keyframe(position=9, position_counts="pixel frames")), "pixel frame 9 does not exist"),
    (
        with_latent(demo_clip=node("PusaDemoClip", seed=0, first=80, length=2), start=keyframe("demo_clip")),
        "frames 80 to 81: the clip has 81",
    ),
    (with_latent(start=keyframe(), again=keyframe(latent=["start", 0])), "latent frame 0 is given twice"),
    (
        image_to_video(given_frames_refresh=2) | {"model": NATIVE},
        "given_frames_refresh is 2, but model was not loaded by Pusa Load",
    ),
]


@pytest.mark.parametrize(("graph", "message"), RUNS, ids=[message[:40] for _, message in RUNS])
def test_refused_before_sampling(comfy: ComfyClient, graph: Graph, message: str) -> None:
    with pytest.raises(RunFailed, match=re.escape(message)):
        comfy.latent(graph, "video")
