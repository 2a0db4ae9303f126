"""Hostile LATENTs, masks and IMAGEs: accepted with what holds of every video, or refused by name."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.comfy_scripts import run_script
from tests.support.fuzz import SEED, TIMES
from tools.comfy_client import ComfyClient

from ..support.graphs import image_to_video, keyframe, sampler

CASES = 1000


@pytest.fixture(scope="module")
def report(comfyui: Path) -> dict[str, Any]:
    """What ``run_hostile_latents.py`` found."""
    return json.loads(run_script(comfyui, "run_hostile_latents.py", SEED, CASES * TIMES))


def test_new_cases_are_accepted_or_refused_by_name(report: dict[str, Any]) -> None:
    assert not report["failed"], f"PUSA_FUZZ_SEED={SEED}"
    assert min(report["accepted"], report["refused"]) > CASES / 20


def test_an_image_or_a_latent_without_frames_is_refused_by_name(report: dict[str, Any]) -> None:
    assert report["no pictures"].startswith("image has shape [0, 32, 32, 3]; it must hold a picture")
    for where in ("no frames", "no frames, mask"):
        assert report[where].startswith("latent has shape [1, 16, 0, 4, 4], which holds no frames")


def test_a_mask_keeps_its_values_and_its_length_where_comfyui_interpolates_it(report: dict[str, Any]) -> None:
    assert report["mask kept"] and report["mask of tokens kept"]
    assert report["mask of 4"].startswith("latent_image has a noise_mask of shape [1, 1, 3, 1, 1], which is not one")


def test_a_mask_that_is_not_of_tokens_is_refused(report: dict[str, Any]) -> None:
    assert re.search(
        r"shape \[1, 1, 3, 2, 2\], which is not .* or tokens, \[1, 1, 3, 2, 4\]", report["mask of other tokens"]
    )
    assert report["mask within tokens"].startswith("latent has a noise_mask that varies within 16 x 16 pixels: a node")


def test_another_number_of_frames_at_the_network_is_refused(report: dict[str, Any]) -> None:
    """ComfyUI's network would not notice, and put the timesteps on other tokens."""
    assert report["wrapper of 3"] == "accepted"
    assert report["wrapper of 4"].startswith("3 noise levels for 4 latent frames")


def test_a_finished_video_has_no_noise_levels(comfy: ComfyClient) -> None:
    """Or the frames that were given could not be replaced in it."""
    graph = image_to_video() | {"other": keyframe("other_picture", latent=["video", 0])}
    assert comfy.latent(graph, "other").isfinite().all()


def test_given_frames_keep_every_bit_on_the_way_through_the_model(comfy: ComfyClient) -> None:
    """ComfyUI normalises latents for the model and back, which is not exact."""
    graph = image_to_video()
    first = comfy.latent(graph, "video")
    again = graph | {"again": keyframe("other_picture", -1, latent=["mask", 0])}
    again["mask"] = {"class_type": "PusaFrameMask", "inputs": {"latent": ["video", 0], "noise_levels": "0-1:0"}}
    result = comfy.latent(again | {"result": sampler("again")}, "result")
    assert torch.equal(result[:, :, :2], first[:, :, :2])
