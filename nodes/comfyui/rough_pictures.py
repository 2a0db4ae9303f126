"""Small pictures of latent frames without a VAE, with the factors of ComfyUI's own previews."""

from collections.abc import Iterable
from typing import Any

import torch
from comfy.latent_formats import LatentFormat, Wan21, Wan22
from PIL import Image

from .demo_preview import latent_format_of
from .latents import Latent

FORMAT = "latent_format"  # in a LATENT: whose colours its pictures have


def with_format(latent: Latent | None, vae: Any) -> Latent:
    """A copy of ``latent``, or a new one, that says the format of the latents that ``vae`` makes."""
    return {**(latent or {}), FORMAT: latent_format_of(vae)}


def rough_pictures(latent: Latent, frames: Iterable[int]) -> dict[int, Image.Image]:
    """The ``frames`` of a Wan video LATENT ``[B, C, F, h, w]`` as pictures of ``w x h``, by frame."""
    native = next(each for each in (Wan21, Wan22) if each.latent_channels == latent["samples"].shape[1])
    latent_format: LatentFormat = latent.get(FORMAT) or native()
    factors = torch.tensor(latent_format.latent_rgb_factors)
    bias = torch.tensor(latent_format.latent_rgb_factors_bias)
    pictures = {}
    for frame in frames:
        latents = latent_format.process_in(latent["samples"][:1, :, frame : frame + 1].float().cpu())[0, :, 0]
        rgb = torch.einsum("chw,cr->hwr", latents, factors) + bias
        pictures[frame] = Image.fromarray(((rgb + 1) * 127.5).clamp(0, 255).byte().numpy())
    return pictures
