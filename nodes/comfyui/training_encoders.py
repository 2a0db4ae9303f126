"""ComfyUI's VAE and text encoders with the interface that the training command expects."""

import comfy.latent_formats
import comfy.sd
import torch
from torch import Tensor

from ...pusa_core import TextEncoder
from ...pusa_core.media.umt5 import MAX_TOKENS
from .demo_encoders import demo_vae
from .latents import CHANNELS


class TrainingVae:
    """Pixels ``[T, H, W, 3]`` in 0..1 <-> normalised latents ``[1, 16, F, H / 8, W / 8]``."""

    def __init__(self, path: str) -> None:
        self._vae = demo_vae(path)
        self._format = comfy.latent_formats.Wan21()
        if self._vae.latent_channels != CHANNELS or self._vae.latent_dim != 3:
            raise ValueError(f"{path} is not the Wan2.1 VAE (16 channels, video); use wan_2.1_vae")

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        return self._format.process_in(self._vae.encode(frames).float())

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return self._vae.decode(self._format.process_out(latents.float().cpu()))[0].float().cpu()


def text_encoder(path: str) -> TextEncoder:
    """Load any umt5 file that ComfyUI's Load CLIP takes. The result maps a prompt to context ``[1, L, 4096]`` fp32."""
    clip = comfy.sd.load_clip(ckpt_paths=[path], clip_type=comfy.sd.CLIPType.WAN)

    @torch.no_grad()
    def encode(text: str) -> Tensor:
        return clip.encode_from_tokens(clip.tokenize(text)).float().cpu()[:, :MAX_TOKENS]

    return encode
