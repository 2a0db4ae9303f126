"""Live previews of the demo model in its own colours: ComfyUI's belong to the VAE of Wan2.1."""

import comfy.latent_formats
from comfy.model_patcher import ModelPatcher

from ...demo.preview import preview_colours


class DemoLatents(comfy.latent_formats.Wan21):
    """The latents of Wan2.1 with the colours of the demo's VAE."""

    latent_rgb_factors, latent_rgb_factors_bias = preview_colours()

    def __init__(self) -> None:
        super().__init__()
        self.taesd_decoder_name = None  # a tiny decoder of Wan2.1 shows noise


def preview_in_demo_colours(model: ModelPatcher) -> None:
    """Give a MODEL that was just loaded from the demo's file the demo's preview."""
    model.model.latent_format = DemoLatents()
