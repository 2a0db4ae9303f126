"""ComfyUI's VAE, asked for each latent of a video once, in order."""

from collections.abc import Iterable, Iterator
from typing import Any

import comfy.latent_formats
import comfy.model_management
import torch
from comfy.ldm.wan.vae import WanVAE
from einops import rearrange
from torch import Tensor, nn

from .latents import CHANNELS

AT_ONCE = 2  # latents that newer versions of the network expect in a call behind the first


class FilmVae:
    """Pixel frames in 0..1 <-> normalised latents, by a VAE in Wan2.1's layout; else ``ValueError``.

    The decoder of such a VAE is causal and keeps what it needs of earlier frames, so a video of any length is decoded
    in constant memory, and without the seams of tiles in time.
    """

    def __init__(self, vae: Any) -> None:
        network = getattr(vae, "first_stage_model", None)
        if not isinstance(network, WanVAE) or network.z_dim != CHANNELS:
            raise ValueError(
                f"vae is {type(network).__name__}, and a video of any length is decoded by the Wan2.1 VAE alone; load "
                f"wan_2.1_vae with Load VAE"
            )
        self._vae = vae
        self._network = network
        self._format = comfy.latent_formats.Wan21()

    def encode(self, frames: Tensor) -> Tensor:
        """``[T, H, W, 3]`` -> normalised latents ``[1, 16, F, h, w]``, fp32 on the CPU."""
        return self._format.process_in(self._vae.encode(frames).float().cpu())

    @torch.no_grad()
    def decode_stream(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """Normalised latents ``[1, 16, F, h, w]`` of one video, in order -> its frames ``[1, T, H, W, 3]`` on the CPU.

        Between two of the given tensors, nothing is kept on the GPU.
        """
        convolutions = sum(isinstance(part, nn.Conv3d) for part in self._network.decoder.modules())
        cache: list[Any] = [None] * convolutions
        held = torch.zeros(0)  # a latent without a second one
        begun = False
        for part in latents:
            waiting = torch.cat((held, part), dim=2) if held.numel() else part
            while waiting.shape[2] >= (AT_ONCE if begun else 1):
                count = AT_ONCE if begun else 1
                yield self._decode(waiting[:, :, :count], cache)
                waiting, begun = waiting[:, :, count:], True
            held = waiting
            cache[:] = (each.cpu() if isinstance(each, Tensor) else each for each in cache)
        if held.numel():
            yield self._decode(held, cache)

    def _decode(self, latents: Tensor, cache: list[Any]) -> Tensor:
        vae = self._vae
        memory = vae.memory_used_decode((*latents.shape[:2], AT_ONCE, *latents.shape[3:]), vae.vae_dtype)
        comfy.model_management.load_models_gpu([vae.patcher], memory_required=memory)
        raw = self._format.process_out(latents.float().cpu()).to(vae.device, vae.vae_dtype)
        cache[:] = (each.to(vae.device) if isinstance(each, Tensor) else each for each in cache)
        frames = self._network.decoder(self._network.conv2(raw), feat_cache=cache, feat_idx=[0])
        video = frames if isinstance(frames, Tensor) else torch.cat(frames, dim=2)
        return (rearrange(video.float(), "b c t h w -> b t h w c").cpu() / 2 + 0.5).clamp(0, 1)
