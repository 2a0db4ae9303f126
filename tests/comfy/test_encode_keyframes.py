"""VAE Encode Keyframes takes pictures of any size, and gives them a noise level."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from demo.clips import draw_scene
from pusa_core.analysis.timeline import CELL_HEIGHT, CELL_WIDTH, GAP, GUTTER, RULER
from pusa_core.weights.demo_files import VAE
from tests.support.comfy_scripts import run_script
from tools.comfy_client import ComfyClient, Graph, PromptRefused, RunFailed

from ..support.graphs import keyframe, node, parts, picture


def started(name: str, **inputs: object) -> Graph:
    """A video of 32 x 32 that starts with a picture, and a mask that names no frame but tells all levels."""
    start = keyframe(name, latent=["empty", 0], **inputs)
    mask = node("PusaFrameMask", latent=["start", 0], noise_levels="")
    shown = node("PreviewImage", images=["mask", 1])
    return {**parts(), "large": picture(0, 96, 40), "start": start, "mask": mask, "shown": shown}


def test_a_picture_of_another_size_is_cropped_to_that_of_the_video(comfy: ComfyClient) -> None:
    fits = comfy.latent(started("picture"), "start")
    assert torch.allclose(comfy.latent(started("large"), "start"), fits, atol=1e-3)
    assert fits.shape[-2:] == (4, 4)


def test_a_padded_picture_has_bars(comfy: ComfyClient) -> None:
    padded = comfy.latent(started("large", resize="pad"), "start")
    assert padded.shape[-2:] == (4, 4)
    assert not torch.allclose(padded, comfy.latent(started("large"), "start"), atol=0.01)


def test_without_a_latent_the_video_is_as_large_as_the_picture(comfy: ComfyClient) -> None:
    graph = {**parts(), "odd": picture(0, 70, 40), "start": keyframe("odd")}
    assert comfy.latent(graph, "start").shape[-2:] == (4, 8)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_the_noise_level_is_that_of_the_placed_frames(comfy: ComfyClient, level: float) -> None:
    shown = comfy.run(started("picture", position=-1, noise_level=level))["mask"]
    assert shown["noise_levels"] == pytest.approx([1, 1, level])
    assert (shown["given"], shown["frames"]) == ([2], [9])
    assert shown["images"][0]["filename"].endswith(".png")


def test_a_level_beyond_one_is_refused(comfy: ComfyClient) -> None:
    with pytest.raises(PromptRefused, match="bigger than max of 1"):
        comfy.run(started("picture", noise_level=1.5))


@pytest.mark.parametrize("loader", ["PusaDemoLoader", "VAELoader"])
def test_the_timeline_shows_a_picture_in_its_own_colours(comfy: ComfyClient, loader: str) -> None:
    scene, where = 776, (slice(0, CELL_HEIGHT // 3), slice(0, CELL_WIDTH))  # above the word in the middle
    vae = node(loader, **({"vae_name": VAE.name} if loader == "VAELoader" else {}))
    start = node(
        "PusaEncodeKeyframes", vae=["vae", loader == "PusaDemoLoader"], image=["scene", 0], position=1, length=9
    )
    mask = node("PusaFrameMask", latent=["start", 0], noise_levels="1:0")
    graph = {"vae": vae, "scene": node("PusaDemoImage", seed=scene), "start": start, "mask": mask}
    try:
        shown = comfy.run({**graph, "shown": node("PreviewImage", images=["mask", 1])})["shown"]["images"][0]
    except RunFailed as error:
        if "size mismatch" not in str(error):
            raise
        pytest.skip("this ComfyUI's Load VAE takes only VAEs of full width")
    left = GUTTER + CELL_WIDTH // 4 + GAP
    timeline = Image.open(io.BytesIO(comfy.file(shown))).convert("RGB")
    cell = timeline.crop((left, RULER, left + CELL_WIDTH, RULER + CELL_HEIGHT))
    frame = Image.fromarray((draw_scene(scene).render([0])[0] * 255).astype(np.uint8)).resize(
        (8, 8), Image.Resampling.BOX
    )
    wanted = ImageOps.fit(frame, cell.size)
    assert np.abs(np.asarray(cell, float) - np.asarray(wanted, float))[where].mean() < 20


@pytest.fixture(scope="module")
def with_5b(comfyui: Path) -> dict[str, Any]:
    """What ``run_5b_vae.py`` saw."""
    return json.loads(run_script(comfyui, "run_5b_vae.py"))


def test_the_vae_of_the_5b_model_encodes_latents_of_16_pixels(with_5b: dict[str, Any]) -> None:
    assert with_5b["shapes"] == [[1, 48, 5, 6, 6], [1, 48, 5, 6, 6], [1, 48, 3, 4, 8]]
    assert with_5b["levels"] == pytest.approx([0, 1, 1, 1, 0.3])
    assert with_5b["error"] == 0 and with_5b["size"] > 0.1
    assert with_5b["format"] == "Wan22"
    assert "a Wan2.2-5B video LATENT is [batch, 48, frames, height / 16, width / 16]" in with_5b["refused"]


def test_a_mask_snaps_to_the_tokens_of_the_5b_model(with_5b: dict[str, Any]) -> None:
    assert with_5b["white"] == [[frame, 0, 2] for frame in range(5)]
    assert with_5b["highest"] == 1.0  # not a grey, as of a mask at half the size
