"""Noise levels for networks that get a time per frame or token from ComfyUI's own mask.

ComfyUI asks these networks at the time ``m sigma`` where its mask is ``m``, but forms the clean estimate with
``sigma``, which is right for 0 and 1 alone. Here the mask goes to the network only, the sampler runs as for Wan
(:mod:`.noise_levels`), and the velocity is multiplied by ``m``: in the network's own units, so that it also holds where
ComfyUI carries a stream in others (Cosmos' variance exploding latents, the sound of MiniMax-H3).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_sampling
import comfy.utils
import torch
from torch import Tensor

from .call_options import with_wrapper
from .latents import check_given

KEY = "pusa_own_mask"

Streams = list[Tensor]
"""The video ``[B, C, F, H, W]``, and the sound behind it if there is one."""


@dataclass(frozen=True)
class Masks:
    """Noise levels of every element. ``noise``: what sampling started from, before given frames were mixed in.

    ``clean``: how clean the network wants what is given, 1: entirely.
    """

    levels: Streams
    noise: Streams
    clean: float = 1.0


def unpack(packed: Tensor, shapes: list[Any]) -> Streams:
    """The streams of one tensor; older versions of ComfyUI have one stream and nothing to unpack it with."""
    return comfy.utils.unpack_latents(packed, shapes) if len(shapes) > 1 else [packed]


def network_levels(model: Any, mask: Tensor, shapes: list[Any]) -> Streams:
    """The noise levels that the network of ``model`` can have, for ComfyUI's mask, packed where there is sound."""
    rounded = (mask.as_subclass(Tensor) * 1e6).round() / 1e6  # newer versions have interpolated it
    video, *sound = unpack(rounded, shapes)
    levels = [video[:, :1].expand(-1, *shapes[0][1:]), *sound]  # older versions leave a mask of frames as it is
    kind = type(model).__name__
    if kind == "CosmosPredict2" and (levels[0].amax((1, 3, 4)) != levels[0].amin((1, 3, 4))).any():
        raise ValueError(
            "latent_image has a noise_mask that varies within a frame, but Cosmos takes one time per frame; set the "
            "noise levels with Frame Conditioning Mask"
        )
    if kind == "LTXAV":
        levels[1:] = [each[:, :1, :, :1].expand_as(each) for each in sound]
    if kind == "MiniMaxH3":  # its network takes levels of tokens, in steps of 1 / 256
        levels[1:] = [each.amax(1, keepdim=True).expand_as(each) for each in sound]
        levels = [torch.ceil(each * 256) / 256 for each in (tokens_at_their_highest(levels[0]), *levels[1:])]
    return levels


def tokens_at_their_highest(levels: Tensor) -> Tensor:
    """``levels [B, C, F, H, W]`` with one value, the highest, in each patch of 2 x 2."""
    height, width = levels.shape[-2:]
    frames = levels.flatten(0, 1)
    pooled = torch.nn.functional.max_pool3d(frames, (1, 2, 2), ceil_mode=True)
    spread = pooled.repeat_interleave(2, -2).repeat_interleave(2, -1)
    return spread[..., :height, :width].reshape(levels.shape)


def check_levels(levels: Streams, latent_image: Tensor, shapes: list[Any]) -> None:
    """Raise ``ValueError`` for levels above 1, or for given frames without a picture."""
    if max(stream.max().item() for stream in levels) > 1:
        raise ValueError("latent_image has a noise_mask above 1; levels go from 0 (keep as given) to 1 (generate)")
    video = unpack(latent_image, shapes)[0]
    check_given(video, frame_levels(levels), "latent_image")


def frame_levels(levels: Streams) -> Tensor:
    """The highest level in each frame of the video ``[F]``; tokens that the network drops have one below 0."""
    return levels[0].amax((0, 1, 3, 4)).clamp(min=0).cpu()


def packed(streams: Streams) -> Tensor:
    return comfy.utils.pack_latents(streams)[0] if len(streams) > 1 else streams[0]


def at_masks(model_options: dict[str, Any], masks: Masks) -> dict[str, Any]:
    """A copy of ``model_options`` with which the velocity is that of every element's own noise level."""
    video = masks.levels[0]
    areas = not torch.equal(video, video[..., :1, :1].expand_as(video))
    return with_wrapper(model_options, KEY, scale_velocity, areas, **{KEY: masks})


def scale_velocity(executor: Callable[..., Any], x: Any, timestep: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Wrapper of the network that multiplies its velocity by the noise levels."""
    found = (each for each in (*args, *kwargs.values()) if isinstance(each, dict) and KEY in each)
    options = next(found)
    masks: Masks = options[KEY]
    levels = levels_of_window(masks.levels, options)
    if masks.clean < 1:
        given = levels[0].to(x[0]) == 0
        x = [torch.where(given, masks.clean * x[0] + (1 - masks.clean) * masks.noise[0].to(x[0]), x[0]), *x[1:]]
    velocity = executor(x, timestep, *args, **kwargs)
    if isinstance(velocity, Tensor):
        return scaled(velocity, levels[0])
    return [scaled(each, level) for each, level in zip(velocity, levels, strict=True)]


def levels_of_window(levels: Streams, options: dict[str, Any]) -> Streams:
    """The levels of the frames in the current context window."""
    window = options.get("context_window")
    if window is None:
        return levels
    if len(levels) > 1:
        raise ValueError(
            "context windows do not work with noise levels where video and sound are sampled together; remove the node "
            "that sets them"
        )
    anchor = getattr(window, "causal_anchor_index", None)
    frames = [*([] if anchor is None or anchor < 0 else [anchor]), *window.index_list]
    return [levels[0][:, :, frames]]


def scaled(velocity: Tensor, levels: Tensor) -> Tensor:
    if velocity.shape[2:] != levels.shape[2:]:
        raise ValueError(
            f"the network computes {list(velocity.shape[2:])} of a video with noise levels {list(levels.shape[2:])}; "
            f"remove the nodes that cut it into parts"
        )
    levels = comfy.utils.repeat_to_batch_size(levels[:, :1].clamp(min=0), len(velocity))  # the prompts are in the batch
    return velocity.float() * levels.to(velocity.device)


def cleanness(model: Any) -> float:
    """How clean the network of ``model`` was trained to see what is given, from 0 to 1."""
    if type(model).__name__ != "MiniMaxH3":
        return 1.0
    from comfy.ldm.minimax.model import VISUAL_COND_TIMESTEP  # only newer versions of ComfyUI have it

    return VISUAL_COND_TIMESTEP


def as_network_sees(model: Any, latent_image: Tensor, shapes: list[Any]) -> Tensor:
    """``latent_image`` in the units of the network, where the sampler carries the sound at another scale."""
    if type(model).__name__ != "MiniMaxH3" or len(shapes) < 2:
        return latent_image
    video, sound = unpack(latent_image, shapes)
    return packed([video, sound / model.audio_scale()])


def noise_fraction(sampling: Any, sigmas: Tensor) -> Tensor:
    """``sigmas`` as fractions of noise, 0 to 1."""
    return sigmas / (1 + sigmas) if isinstance(sampling, comfy.model_sampling.COSMOS_RFLOW) else sigmas
