"""Colours held over a long video: the statistics of latent channels."""

from dataclasses import dataclass

import torch
from torch import Tensor

_OVER = (2, 3, 4)
_EPS = 1e-6


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and standard deviation of every latent channel over frames and places, ``[B, C, 1, 1, 1]``."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, latents: Tensor) -> "ChannelStatistics":
        """Of ``latents [B, C, F, H, W]``."""
        return cls(latents.mean(_OVER, keepdim=True), latents.std(_OVER, keepdim=True, correction=0))

    def match(self, latents: Tensor) -> Tensor:
        """``latents [B, C, F, H, W]`` moved and scaled, channel by channel, to have these statistics."""
        own = ChannelStatistics.of(latents)
        return (latents - own.mean) * (self.std / torch.clamp(own.std, min=_EPS)) + self.mean
