"""Small pictures of latent frames without a VAE, with the factors of ComfyUI's own previews."""

from collections.abc import Iterable

import torch
from comfy.latent_formats import Wan21, Wan22
from PIL import Image
from torch import Tensor


def rough_pictures(samples: Tensor, frames: Iterable[int]) -> dict[int, Image.Image]:
    """The ``frames`` of raw VAE latents ``samples [B, C, F, h, w]`` of Wan as pictures of ``w x h``, by frame."""
    latent_format = next(each for each in (Wan21(), Wan22()) if each.latent_channels == samples.shape[1])
    factors = torch.tensor(latent_format.latent_rgb_factors)
    bias = torch.tensor(latent_format.latent_rgb_factors_bias)
    pictures = {}
    for frame in frames:
        latents = latent_format.process_in(samples[:1, :, frame : frame + 1].float().cpu())[0, :, 0]
        rgb = torch.einsum("chw,cr->hwr", latents, factors) + bias
        pictures[frame] = Image.fromarray(((rgb + 1) * 127.5).clamp(0, 255).byte().numpy())
    return pictures
