"""The same video from ``pusa_core`` alone and from a ComfyUI server."""

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from pusa_core import (
    WanModel,
    euler_sample,
    flow_sigmas,
    merge_lora,
    parse_noise_levels,
    sigma_table,
    start_latents,
)
from pusa_core.media.demo_text import encode_text
from pusa_core.sampling.sampler import StepCallback
from tools.comfy_client import ComfyClient

from ..support.cached import cached_velocity
from ..support.graphs import LORA, image_to_video
from ..support.models import CONFIG, random_dit, random_lora

PROMPT = image_to_video()["positive"]["inputs"]["text"]


def normalisation() -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``[1, 16, 1, 1, 1]`` of Wan2.1 latents."""
    config = AutoencoderKLWan(base_dim=8).config
    return tuple(torch.tensor(config[key]).view(1, -1, 1, 1, 1) for key in ("latents_mean", "latents_std"))


@torch.no_grad()
def sample_with_core(
    given: Tensor,
    levels: str | Tensor,
    lora_strength: float,
    cfg: float,
    seed: int,
    steps: int,
    refresh: int = 1,
    wrap: Callable[[WanModel], nn.Module] = lambda model: model,
    callback: StepCallback | None = None,
) -> Tensor:
    """What a graph of ``image_to_video`` computes, without ComfyUI."""
    model = WanModel(CONFIG)
    model.load_state_dict(random_dit())
    if lora_strength:
        merge_lora(model, random_lora(), lora_strength)
    mean, std = normalisation()
    levels = parse_noise_levels(levels, given.shape[2]) if isinstance(levels, str) else levels
    table = sigma_table(flow_sigmas(steps, 5.0), levels)
    noise = torch.randn(given.shape, generator=torch.Generator().manual_seed(seed))
    latents = start_latents(noise, (given - mean) / std, table[0])
    velocity = cached_velocity(wrap(model), encode_text(PROMPT), encode_text(""), cfg, table, refresh)
    return euler_sample(velocity, latents, table, callback=callback) * std + mean


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize(("lora_name", "strength"), [("none", 0.0), (LORA, 1.4)], ids=["base", "lora"])
@pytest.mark.parametrize("levels", ["0:0", "0:0.3"])
def test_pusa_core_gives_the_same_video(
    comfy: ComfyClient, levels: str, lora_name: str, strength: float, cfg: float
) -> None:
    graph = image_to_video(levels, lora_name=lora_name, cfg=cfg, seed=11, steps=6)
    video = comfy.latent(graph, "video")
    expected = sample_with_core(comfy.latent(graph, "start"), levels, strength, cfg, seed=11, steps=6)
    assert (video - expected).abs().max() < 1e-3


@pytest.mark.parametrize("refresh", [0, 2])
def test_frames_left_out_give_the_same_video_too(comfy: ComfyClient, refresh: int) -> None:
    graph = image_to_video("0:0", seed=11, steps=6)
    given, exact = comfy.latent(graph, "start"), comfy.latent(graph, "video")
    graph["video"]["inputs"]["given_frames_refresh"] = refresh
    video = comfy.latent(graph, "video")
    expected = sample_with_core(given, "0:0", 0.0, cfg=3.0, seed=11, steps=6, refresh=refresh)
    assert (video - expected).abs().max() < 1e-3
    assert torch.equal(video[:, :, 0], given[:, :, 0])
    assert (video - exact).abs().max() > 1e-5  # or the agreement would prove nothing
