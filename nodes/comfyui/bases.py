"""The kinds of MODEL that Pusa Patch Model takes, and how the network of each takes a time per latent frame.

Wan networks take a list of times that they spread evenly over their tokens, so that tokens of reference pictures and
poses beside those of the video need entries of their own (:func:`token_times`). Other networks get their times from
ComfyUI's mask (:mod:`.own_masks`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_sampling
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .model import check_flow, check_model, is_text_to_video

Arguments = dict[str, Any]
"""What a network is called with besides latents, time and text."""


def tokens_of(latents: Tensor | None) -> int:
    """The tokens of latents ``[B, C, F, H, W]`` or ``[B, C, H, W]`` in patches of 2 x 2; 0 for None."""
    if latents is None:
        return 0
    frames = latents.shape[2] if latents.ndim == 5 else 1
    return frames * math.ceil(latents.shape[-2] / 2) * math.ceil(latents.shape[-1] / 2)


def no_tokens(network: Any, arguments: Arguments) -> tuple[int, int]:
    return 0, 0


def reference_through_layer(network: Any, arguments: Arguments) -> tuple[int, int]:
    """Fun models have a layer for a reference picture; all other networks of this class ignore one."""
    return tokens_of(arguments.get("reference_latent")) if network.ref_conv is not None else 0, 0


def references_and_poses(network: Any, arguments: Arguments) -> tuple[int, int]:
    return tokens_of(arguments.get("reference_latent")), tokens_of(arguments.get("pose_latents"))


def references_behind(network: Any, arguments: Arguments) -> tuple[int, int]:
    return 0, tokens_of(arguments.get("reference_latent"))


@dataclass(frozen=True)
class Base:
    """A kind of MODEL.

    ``reads``: entries of a conditioning that its network reads besides the text.
    ``extra_tokens``: how many tokens its network has before and behind those of the video, for a call's arguments.
    ``history_mask``: its network is told by channels of its own which frames are given.
    ``whole_frames``: its network takes no times of tokens.
    ``own_mask``: ComfyUI's mask gives its network the times; its text encoder and its latents are not Wan's.
    """

    label: str
    reads: frozenset[str] = frozenset()
    extra_tokens: Callable[[Any, Arguments], tuple[int, int]] = no_tokens
    history_mask: bool = False
    whole_frames: bool = False
    own_mask: bool = False


PICTURES = frozenset({"concat_latent_image", "concat_mask", "concat_mask_index", "clip_vision_output"})
REFERENCES = frozenset({"reference_latents"})
SCAIL = REFERENCES | {"clip_vision_output", "pose_video_latent"}
SCAIL2 = SCAIL | {"driving_mask_28ch", "ref_mask_28ch", "ref_mask_flag"}
SOUND = REFERENCES | {"audio_embed"}

TEXT_TO_VIDEO = Base("Wan2.1 / Wan2.2-14B text-to-video")
IMAGE_TO_VIDEO = Base("Wan image-to-video", PICTURES | REFERENCES, reference_through_layer)
BASES = {
    "WAN22": Base("Wan2.2 TI2V-5B", PICTURES | REFERENCES, reference_through_layer),
    "WAN21_SCAIL": Base("SCAIL", SCAIL, references_and_poses),
    "WAN21_SCAIL2": Base("SCAIL-2", SCAIL2, references_and_poses, history_mask=True),
    "WAN22_Animate": Base("Wan2.2 Animate", PICTURES | {"face_video_pixels", "pose_video_latent"}),
    "WAN21_HuMo": Base("HuMo", SOUND, references_behind),
    # its network counts its further tokens itself, in frames
    "WAN22_S2V": Base("Wan2.2 S2V", SOUND | {"reference_motion", "control_video"}, whole_frames=True),
    "LTXV": Base("LTX-Video", own_mask=True),
    "LTXAV": Base("LTX-2", own_mask=True),
    "CosmosPredict2": Base("Cosmos Predict2", own_mask=True),
    "MiniMaxH3": Base("MiniMax-H3", own_mask=True),
}
"""By the name of their class in ``comfy.model_base``. Wan2.1, text or image to video, is ``WAN21``."""

ONE_TIME = {"WAN21_Vace": "a VACE model", "WAN21_Camera": "a camera-control model"}
"""Kinds whose network takes one time for all frames."""


def base_of(model: ModelPatcher) -> Base | None:
    """What kind of MODEL it is; None for one that per-frame noise levels are not known to be right for."""
    kind = type(model.model).__name__
    if kind == "WAN21":
        return TEXT_TO_VIDEO if is_text_to_video(model) else IMAGE_TO_VIDEO
    return BASES.get(kind)


def check_base(model: ModelPatcher, name: str) -> Base:
    """The kind of the MODEL input ``name``. Raises ``ValueError`` if it cannot take a noise level per frame."""
    kind, base = type(model.model).__name__, base_of(model)
    if kind in ONE_TIME:
        raise ValueError(
            f"{name} is {ONE_TIME[kind]}, whose network takes one time for all frames; load a Wan2.1 or Wan2.2-14B "
            f"text-to-video checkpoint instead"
        )
    if base is None or base is TEXT_TO_VIDEO:
        check_model(model, name)
        return TEXT_TO_VIDEO
    check_flow(model, name, (comfy.model_sampling.CONST, comfy.model_sampling.COSMOS_RFLOW))
    return base


def check_areas(base: Base, levels: Tensor) -> None:
    """Raise ``ValueError`` for ``levels [F, h, w]`` of tokens that the network cannot take."""
    if levels.ndim > 1 and base.whole_frames:
        raise ValueError(
            f"latent_image has noise levels that vary within a frame, but {base.label} takes one time per frame; leave "
            f"out the mask of Frame Conditioning Mask"
        )


def token_times(times: Tensor, own: Tensor, tokens: int, before: int, behind: int) -> Tensor:
    """Times ``[n]`` of equally large groups of a Wan network's tokens, in their order.

    ``times``: ``[F]``, or ``[F, h, w]`` of tokens, for the video's ``tokens``. ``before`` and ``behind``: how many
    tokens are around them, at the step's ``own`` time (a scalar).
    """
    values = times.flatten()
    if not before and not behind:
        return values
    each = tokens // len(values)
    group = math.gcd(each, before, behind)
    video = values.repeat_interleave(each // group)
    return torch.cat([own.expand(before // group), video, own.expand(behind // group)])
