"""The VAE without ComfyUI, against the reference's numbers on tiny random weights."""

import pytest
import torch

from tests.conftest import GOLDENS, max_error

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def vae():
    from pusa_core.media.vae import WanVae

    return WanVae(GOLDENS / "vae_tiny.safetensors")


def pixels(video):
    """[1, 3, T, H, W] in -1..1 -> [T, H, W, 3] in 0..1"""
    return video[0].permute(1, 2, 3, 0) / 2 + 0.5


def test_encode_and_decode_match_the_reference(vae, golden):
    expected = golden("vae")
    assert max_error(vae.encode(pixels(expected["video"])), expected["latents"]) < 1e-4
    assert max_error(vae.decode(expected["latents"]), pixels(expected["decoded"])) < 1e-4


@pytest.mark.parametrize("frames", [1, 9, 13])
def test_the_first_frames_alone_have_the_latents_they_have_in_the_video(vae, golden, frames):
    expected = golden("vae")
    latents = vae.encode(pixels(expected["video"])[:frames])
    assert max_error(latents, expected[f"encode_first{frames}"]) < 1e-4
    assert max_error(latents, expected["latents"][:, :, : latents.shape[2]]) < 1e-4


def test_a_clip_of_another_length_is_refused(vae):
    with pytest.raises(ValueError, match="8 frames"):
        vae.encode(torch.zeros(8, 16, 16, 3))


def test_another_file_is_refused():
    from pusa_core.media.vae import WanVae

    with pytest.raises(ValueError, match=r"not a Wan2\.1 VAE"):
        WanVae(GOLDENS / "dit_tiny.safetensors")
