"""Noise levels per latent frame, stored in a LATENT as ``noise_mask [1, 1, F, 1, 1]``."""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor

Latent = dict[str, Any]

CHANNELS = 16  # of the Wan2.1 VAE


def check_samples(latent: Latent, name: str) -> Tensor:
    """The samples ``[B, 16, F, H, W]`` of a LATENT input. Raises ``ValueError`` if they are not a Wan2.1 video."""
    samples: Tensor = latent["samples"]
    shape = tuple(samples.shape)
    if samples.ndim != 5 or shape[1] != CHANNELS:
        raise ValueError(
            f"{name} has shape {list(shape)}; a Wan2.1 video LATENT is [batch, {CHANNELS}, frames, height / 8, "
            f"width / 8]: make it with EmptyHunyuanLatentVideo or VAE Encode Keyframes"
        )
    if shape[3] % 2 or shape[4] % 2:
        raise ValueError(
            f"{name} is for a video of {shape[4] * 8} x {shape[3] * 8} pixels; both sides must be divisible by 16"
        )
    if not samples.isfinite().all():
        raise ValueError(f"{name} contains NaN or infinite values; look for the node before that made them")
    return samples


def noise_levels_of(latent: Latent, name: str) -> Tensor:
    """Noise levels ``[F]`` of a LATENT input: its ``noise_mask``, or 1 for every frame without one.

    Raises ``ValueError`` for a mask that is not one value in 0..1 per latent frame.
    """
    frames = latent["samples"].shape[2]
    mask = latent.get("noise_mask")
    if mask is None:
        return torch.ones(frames)
    fix = "set the noise levels with Frame Conditioning Mask"
    if mask.ndim != 5 or mask.shape[2] not in (1, frames):
        raise ValueError(
            f"{name} has a noise_mask of shape {list(mask.shape)}, which is not one noise level for each of its "
            f"{frames} latent frames, [1, 1, {frames}, 1, 1]; {fix}"
        )
    by_frame = rearrange(mask.float().cpu(), "b c f h w -> f (b c h w)")
    levels = by_frame[:, 0]
    if not torch.equal(by_frame, levels[:, None].expand_as(by_frame)):
        raise ValueError(f"{name} has a noise_mask that varies within a frame or over the batch; {fix}")
    if not ((levels >= 0) & (levels <= 1)).all():
        bad = levels[~((levels >= 0) & (levels <= 1))][0].item()
        raise ValueError(f"{name} has the noise level {bad:g}; levels go from 0 (keep as given) to 1 (generate); {fix}")
    return levels.expand(frames).clone()


def with_noise_levels(latent: Latent, samples: Tensor, levels: Tensor) -> Latent:
    """A copy of ``latent`` with other samples and noise levels ``[F]``."""
    return {**latent, "samples": samples, "noise_mask": rearrange(levels, "f -> 1 1 f 1 1")}


def check_given(samples: Tensor, levels: Tensor, name: str) -> None:
    """Raise ``ValueError`` if a frame at a noise level below 1 is empty (all zeros)."""
    given = (levels < 1).nonzero().flatten().tolist()
    empty = [frame for frame in given if not samples[:, :, frame].any()]
    if empty:
        raise ValueError(
            f"{name} has the noise level {levels[empty[0]]:g} at latent frame {empty[0]}, but no picture there; "
            f"put VAE Encode Keyframes at that frame before it, or leave the frame's level at 1"
        )
