"""Pictures of the demo's latents in their own colours: those that ComfyUI knows belong to the VAE of Wan2.1."""

from functools import lru_cache
from typing import Any

import comfy.latent_formats
from comfy.model_patcher import ModelPatcher
from safetensors import safe_open
from torch import Tensor

from ...demo.preview import preview_colours
from ...pusa_core.weights.demo_files import VAE

SIGN = "encoder.conv1.bias"  # tells the demo's VAE from others


class DemoLatents(comfy.latent_formats.Wan21):
    """The latents of Wan2.1 with the colours of the demo's VAE."""

    latent_rgb_factors, latent_rgb_factors_bias = preview_colours()

    def __init__(self) -> None:
        super().__init__()
        self.taesd_decoder_name = None  # a tiny decoder of Wan2.1 shows noise


def preview_in_demo_colours(model: ModelPatcher) -> None:
    """Give a MODEL that was just loaded from the demo's file the demo's preview."""
    model.model.latent_format = DemoLatents()


@lru_cache(maxsize=1)
def _demo_sign() -> Tensor:
    with safe_open(VAE, framework="pt") as file:
        return file.get_tensor(SIGN).float()


def latent_format_of(vae: Any) -> comfy.latent_formats.LatentFormat:
    """The format of the latents that a Wan VAE makes: the demo's for its VAE, whoever loaded that."""
    if getattr(vae, "latent_channels", None) == comfy.latent_formats.Wan22.latent_channels:
        return comfy.latent_formats.Wan22()
    network = getattr(vae, "first_stage_model", None)  # which a VAE of another pack may lack
    sign = None if network is None else dict(network.named_parameters()).get(SIGN)
    ours = _demo_sign()
    if sign is None or sign.shape != ours.shape or not sign.detach().float().cpu().allclose(ours, atol=1e-2, rtol=1e-2):
        return comfy.latent_formats.Wan21()
    return DemoLatents()
