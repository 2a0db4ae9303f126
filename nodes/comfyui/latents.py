"""Noise levels per latent frame or token, stored in a LATENT as ``noise_mask [1, 1, F, 1, 1]`` or ``[1, 1, F, h, w]``.

Tokens are squares of 2 x 2 latents: 16 x 16 pixels, or 32 x 32 in the latents of Wan2.2 TI2V-5B.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...pusa_core.sampling.schedule import PATCH, range_of_frames

Latent = dict[str, Any]

CHANNELS = 16  # of the Wan2.1 VAE


class VaeKind(NamedTuple):
    """``pixels``: on each side of a latent."""

    name: str
    pixels: int


VAES = {CHANNELS: VaeKind("Wan2.1", 8), 48: VaeKind("Wan2.2-5B", 16)}
"""By the channels of their latents."""

_FIX = "set the noise levels again with Frame Conditioning Mask, behind that node"
_CUT = (
    "a node such as TrimVideoLatent, LatentCut or LatentConcat has changed the frames and left the noise_mask as it was"
)
_SPATIAL = "a node such as SetLatentNoiseMask has set it, whose mask Frame Conditioning Mask takes as well"


class NoiseMask(Tensor):
    """A ``noise_mask [1, 1, F, 1, 1]`` or ``[1, 1, F, h, w]`` that keeps its values.

    Newer versions of ComfyUI interpolate a mask to the size of the video before a MODEL can see it, so that the
    levels of another video would look right, and nobody asked for them.
    """

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not torch.nn.functional.interpolate:
            return super().__torch_function__(func, types, args, kwargs or {})
        mask, size = args[0], torch.Size((kwargs or {}).get("size") or args[1])
        check_mask(mask, size, "latent_image")
        if mask.shape[3:] not in ((1, 1), size[1:]):  # one for each token
            mask = mask.repeat_interleave(PATCH, -2).repeat_interleave(PATCH, -1)
        return mask.expand(*mask.shape[:2], *size)  # the very values, where interpolation would round


def check_samples(latent: Latent, name: str, *channels: int) -> Tensor:
    """The samples ``[B, C, F, H, W]`` of a LATENT input.

    Raises ``ValueError`` if they are not a Wan video of one of these numbers of ``channels``; none: Wan2.1's.
    """
    samples: Tensor = latent["samples"]
    shape, channels = tuple(samples.shape), channels or (CHANNELS,)
    if samples.ndim != 5 or shape[1] not in channels:
        vae, pixels = VAES[channels[0]]
        make = "EmptyHunyuanLatentVideo or VAE Encode Keyframes" if pixels == 8 else "Wan22ImageToVideoLatent"
        raise ValueError(
            f"{name} has shape {list(shape)}; a {vae} video LATENT is [batch, {channels[0]}, frames, "
            f"height / {pixels}, width / {pixels}]: make it with {make}"
        )
    if not samples.numel():
        raise ValueError(
            f"{name} has shape {list(shape)}, which holds no frames; connect a video of at least one frame"
        )
    if shape[3] % 2 or shape[4] % 2:
        pixels = VAES[shape[1]].pixels
        raise ValueError(
            f"{name} is for a video of {shape[4] * pixels} x {shape[3] * pixels} pixels; both sides must be divisible "
            f"by {2 * pixels}"
        )
    if not samples.isfinite().all():
        raise ValueError(f"{name} contains NaN or infinite values; look for the node before that made them")
    return samples


def noise_levels_of(latent: Latent, name: str) -> Tensor:
    """Noise levels of a LATENT input: its ``noise_mask``, or 1 for every frame without one.

    ``[F]``, or ``[F, h, w]``, of tokens, if they vary within a frame. Raises ``ValueError`` for a mask that is not one
    value in 0..1 per latent frame or token.
    """
    channels, *shape = latent["samples"].shape[1:]
    size = torch.Size(shape)
    mask = latent.get("noise_mask")
    if mask is None:
        return torch.ones(size[0])
    check_mask(mask, size, name)
    mask = mask.as_subclass(Tensor).float().cpu()
    levels = mask[0, 0]
    if not torch.equal(mask, levels.expand_as(mask)):
        raise ValueError(f"{name} has a noise_mask that varies over the batch: {_SPATIAL}; {_FIX}")
    if levels.shape[1:] == size[1:]:  # one for each latent
        by_latent, levels = levels, levels[:, ::PATCH, ::PATCH]
        if not torch.equal(by_latent, levels.repeat_interleave(PATCH, -2).repeat_interleave(PATCH, -1)):
            side = PATCH * VAES[channels].pixels if channels in VAES else PATCH * VAES[CHANNELS].pixels
            raise ValueError(f"{name} has a noise_mask that varies within {side} x {side} pixels: {_SPATIAL}; {_FIX}")
    if not ((levels >= 0) & (levels <= 1)).all():
        bad = levels[~((levels >= 0) & (levels <= 1))][0].item()
        raise ValueError(
            f"{name} has the noise level {bad:g}; levels go from 0 (keep as given) to 1 (generate); {_FIX}"
        )
    levels = levels.expand(size[0], -1, -1)
    low, high = range_of_frames(levels)
    return low if torch.equal(low, high) else levels.clone()


def check_mask(mask: Tensor, size: torch.Size, name: str) -> None:
    """Raise ``ValueError`` unless a ``noise_mask`` fits latents of ``size``: frames, height, width.

    It needs a value for each frame, or one for all, which may differ over tokens or latents.
    """
    if not mask.numel():
        raise ValueError(f"{name} has a noise_mask of shape {list(mask.shape)}, which is empty; {_FIX}")
    frames, height, width = size
    grid = (height // PATCH, width // PATCH)
    if mask.ndim != 5 or mask.shape[2] not in (1, frames) or mask.shape[3:] not in ((1, 1), grid, (height, width)):
        raise ValueError(
            f"{name} has a noise_mask of shape {list(mask.shape)}, which is not one noise level for each of its "
            f"{frames} latent frames, [1, 1, {frames}, 1, 1], or tokens, {[1, 1, frames, *grid]}: "
            f"{_CUT if mask.ndim == 5 else _SPATIAL}; {_FIX}"
        )


def with_noise_levels(latent: Latent, samples: Tensor, levels: Tensor) -> Latent:
    """A copy of ``latent`` with other samples and noise levels ``[F]`` or ``[F, h, w]``."""
    mask = levels.reshape(1, 1, len(levels), *(levels.shape[1:] or (1, 1))).as_subclass(NoiseMask)
    return {**latent, "samples": samples, "noise_mask": mask}


def holds_picture(samples: Tensor) -> Tensor:
    """Which frames of ``samples [B, C, F, H, W]`` are not empty: ``[F]``, on the CPU."""
    return samples.ne(0).any(dim=4).any(dim=3).any(dim=1).any(dim=0).cpu()


def ignored_pictures(samples: Tensor, levels: Tensor, name: str) -> str:
    """A warning for a LATENT with pictures of which nothing is kept, "" for any other."""
    if (levels < 1).any() or not samples.any():
        return ""
    return (
        f"{name} holds pictures, but every frame's noise level is 1: all frames are generated anew, and nothing of the "
        f"pictures is used. Give pictures with VAE Encode Keyframes, or set levels with Frame Conditioning Mask."
    )


def frames_without_picture(samples: Tensor, levels: Tensor) -> list[int]:
    """The frames with a noise level below 1, wholly or in part, that nobody has given."""
    return ((range_of_frames(levels)[0] < 1) & ~holds_picture(samples)).nonzero().flatten().tolist()


def check_given(samples: Tensor, levels: Tensor, name: str) -> None:
    """Raise ``ValueError`` when a frame with a noise level below 1 holds no picture."""
    empty = frames_without_picture(samples, levels)
    if empty:
        level = range_of_frames(levels)[0][empty[0]]
        raise ValueError(
            f"{name} has the noise level {level:g} at latent frame {empty[0]}, but no picture there; put VAE Encode "
            f"Keyframes at that frame before it, or leave the frame's level at 1"
        )
