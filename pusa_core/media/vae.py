"""The Wan2.1 VAE without ComfyUI: diffusers' implementation, loaded from a file in the Wan2.1 layout."""

from collections.abc import Iterable, Iterator
from os import PathLike
from typing import Any, Protocol

import torch
from einops import rearrange
from torch import Tensor

from ..model.device import best_device
from ..weights.demo_files import VAE as DEMO_VAE
from ..weights.demo_files import file_or_demo
from ..weights.files import read_tensors

LATENT_CHANNELS = 16
STRIDE = 8
"""Pixels per latent, in height and width."""


class Vae(Protocol):
    """Pixels ``[T, H, W, 3]`` in 0..1 <-> normalised latents ``[1, 16, F, H / 8, W / 8]``, ``T = 4 (F - 1) + 1``."""

    def encode(self, frames: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...


def load_vae(path: str | PathLike, *, device: torch.device | str | None = None) -> "WanVae":
    """Load a Wan2.1 VAE (fp32). Needs the ``standalone`` extra (diffusers).

    Args:
        path: a file in the Wan2.1 layout, or ``"demo"`` for the demo model's.
        device: where it computes; by default ``cuda`` or ``mps`` where there is one, else ``cpu``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or another VAE.
    """
    return WanVae(file_or_demo(path, DEMO_VAE), best_device() if device is None else device)


class WanVae:
    """Pixels ``[T, H, W, 3]`` in 0..1 <-> normalised latents ``[1, 16, F, H / 8, W / 8]``, ``T = 4 (F - 1) + 1``.

    Needs the ``standalone`` extra (diffusers). The width of the network is read from the file, so the released VAE,
    its pruned variants and the demo's small one all load.
    """

    def __init__(self, path: str | PathLike, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32):
        from diffusers import AutoencoderKLWan

        weights = _read_weights(path)
        latent_channels = weights["decoder.conv_in.weight"].shape[1]
        if latent_channels != LATENT_CHANNELS:
            raise ValueError(
                f"{path} is a VAE of {latent_channels} latent channels; Wan2.1 and Wan2.2-14B need 16 (wan_2.1_vae)"
            )
        model = AutoencoderKLWan(
            base_dim=weights["encoder.conv_in.weight"].shape[0],
            decoder_base_dim=weights["decoder.conv_out.weight"].shape[1],
        )
        try:
            model.load_state_dict({name: value.to(dtype) for name, value in weights.items()}, assign=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{path} is no whole Wan2.1 VAE ({reason} ...); download wan_2.1_vae again") from error
        self.model = model.to(device).eval().requires_grad_(False)
        self.mean = torch.tensor(model.config.latents_mean, device=device).view(1, -1, 1, 1, 1)
        self.std = torch.tensor(model.config.latents_std, device=device).view(1, -1, 1, 1, 1)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """``[T, H, W, 3]`` or ``[B, T, H, W, 3]`` in 0..1 -> normalised latents ``[B, 16, F, h, w]``, fp32.

        The mean of the posterior, as in Wan.
        """
        if frames.shape[-4] % 4 != 1:
            raise ValueError(f"{frames.shape[-4]} frames; the VAE encodes 4 n + 1")
        clips = frames if frames.ndim == 5 else frames[None]
        video = rearrange(clips, "b t h w c -> b c t h w").to(self.model.device, self.model.dtype) * 2 - 1
        return (self.model.encode(video).latent_dist.mean.float() - self.mean) / self.std

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents ``[1, 16, F, h, w]`` -> ``[T, H, W, 3]`` in 0..1, fp32 on the CPU."""
        return self.decode_batch(latents)[0]

    @torch.no_grad()
    def decode_batch(self, latents: Tensor) -> Tensor:
        """Normalised latents ``[B, 16, F, h, w]`` -> ``[B, T, H, W, 3]`` in 0..1, fp32 on the CPU."""
        decode = self.decoder()
        return torch.cat([decode(frame) for frame in latents.split(1, dim=2)], dim=1)

    def decoder(self) -> "FrameDecoder":
        """A decoder of one video, latent by latent."""
        return FrameDecoder(self)

    def decode_stream(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """Latents ``[1, 16, F, h, w]`` of one video, in order -> its frames ``[1, T, H, W, 3]``, latent by latent."""
        decode = self.decoder()
        for part in latents:
            for frame in range(part.shape[2]):
                yield decode(part[:, :, frame : frame + 1])


class FrameDecoder:
    """Latent frames of one video, in order -> their pixel frames: the first makes one, each later one four.

    The network is causal in time, so what it keeps of earlier frames is a cache of fixed size, and a video of any
    length is decoded as if at once.
    """

    def __init__(self, vae: WanVae) -> None:
        self._vae = vae
        convolutions = sum(isinstance(part, torch.nn.Conv3d) for part in vae.model.decoder.modules())
        self._cache: list[Any] = [None] * convolutions
        self._first = True

    @torch.no_grad()
    def __call__(self, latent: Tensor) -> Tensor:
        """A normalised latent frame ``[B, 16, 1, h, w]`` -> ``[B, T, H, W, 3]`` in 0..1, fp32 on the CPU."""
        vae = self._vae
        raw = (latent.to(vae.mean) * vae.std + vae.mean).to(vae.model.dtype)
        first, self._first = self._first, False
        video = vae.model.decoder(
            vae.model.post_quant_conv(raw), feat_cache=self._cache, feat_idx=[0], first_chunk=first
        )
        return (rearrange(video.float(), "b c t h w -> b t h w c").cpu() / 2 + 0.5).clamp(0, 1)


def _read_weights(path: str | PathLike) -> dict[str, Tensor]:
    """The tensors of a VAE file under diffusers' names. Raises ``ValueError`` for another file."""
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    tensors = {name.removeprefix("model."): value for name, value in read_tensors(path).items()}
    names = f"first names: {sorted(tensors)[:3]}"
    try:
        weights = convert_wan_vae_to_diffusers(dict(tensors))
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{path} is no whole Wan2.1 VAE ({names}; {error!r}); use wan_2.1_vae") from error
    ends = [weights.get(f"{name}.weight") for name in ("encoder.conv_in", "decoder.conv_in", "decoder.conv_out")]
    if any(end is None or end.ndim < 2 for end in ends):
        raise ValueError(f"{path} is not a Wan2.1 VAE ({names}); use wan_2.1_vae")
    return weights
