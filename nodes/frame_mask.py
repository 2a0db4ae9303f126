"""Frame Conditioning Mask: sets the noise levels of latent frames of a LATENT, and of areas within them."""

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..pusa_core import Given
from ..pusa_core.analysis.timeline import draw_timeline
from ..pusa_core.sampling.fit import fit_pictures
from ..pusa_core.sampling.keyframes import pixel_length
from ..pusa_core.sampling.masks import mask_levels
from ..pusa_core.sampling.schedule import PATCH, check_entries, named_noise_levels, parse_entries, range_of_frames
from .comfyui.images import as_image
from .comfyui.inputs import check_number
from .comfyui.latents import (
    VAES,
    Latent,
    check_samples,
    frames_without_picture,
    holds_picture,
    noise_levels_of,
    with_noise_levels,
)
from .comfyui.notices import warn
from .comfyui.rough_pictures import rough_pictures
from .comfyui.schema import schema

LONGEST = 1000  # latent frames; longer videos are not expected


def levels_to_change(latent: Latent) -> Tensor:
    """The noise levels of a LATENT; 1 for every frame where its ``noise_mask`` is not that of its frames."""
    try:
        return noise_levels_of(latent, "latent")
    except ValueError as error:
        warn(f"The noise levels are set anew, and frames that are not named get level 1, because {error}.")
        return torch.ones(latent["samples"].shape[2])


def tokens_of_mask(mask: Tensor, samples: Tensor) -> Tensor:
    """A MASK ``[T, H, W]`` or ``[H, W]`` on the tokens of a video, ``[F, h, w]``: white is 1.

    It is scaled to cover the video and cropped, as pictures are. Raises ``ValueError`` for anything else, or another
    number of pictures than one or one for each frame.
    """
    pictures = mask[None] if mask.ndim == 2 else mask
    if pictures.ndim != 3 or not pictures.numel():
        raise ValueError(f"mask has shape {list(mask.shape)}; it must hold a picture, [frames, height, width]")
    if not pictures.isfinite().all():
        raise ValueError("mask contains NaN or infinite values; look for the node before that made them")
    channels, frames, height, width = samples.shape[1:]
    stride = VAES[channels].pixels
    pictures = pictures.float().cpu().clamp(0, 1)
    fitted = fit_pictures(pictures[..., None], (width * stride, height * stride))[..., 0]
    tokens = mask_levels(fitted, pixel_length(frames), PATCH * stride)
    if not tokens.any():
        warn(
            "mask is black, so it changes nothing. Load Image gives such a mask with a picture that has none: paint "
            "the area in its mask editor."
        )
    return tokens


class PusaFrameMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PusaFrameMask",
            display_name="Frame Conditioning Mask",
            category="Pusa",
            search_aliases=[
                *("timeline", "noise level", "noise multipliers", "per-frame noise", "denoise per frame"),
                *("inpaint", "outpaint", "video inpainting", "region"),
            ],
            description="Sets the noise levels of latent frames: 0 keeps a frame exactly, 1 generates it.",
            has_intermediate_output=True,
            inputs=[
                io.Latent.Input("latent", tooltip="A video with given frames, from VAE Encode Keyframes."),
                io.String.Input(
                    "noise_levels",
                    default="0:0",
                    multiline=True,
                    tooltip="FRAME:LEVEL or FIRST-LAST:LEVEL, separated by commas. Frames are latent frames, -1 is the "
                    'last; p76 is the one that covers pixel frame 76. For example "0:0.3, -1:0.7", "p69-80:0.2", or '
                    'the ramp "0-3:0..0.5". Other frames keep their level.',
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="An area that gets a level of its own, such as from Load Image's mask editor: one picture, "
                    "or one for each frame of the video. White gets mask_level, black keeps the level of its frame, "
                    "greys are in between. Snaps to squares of 16 pixels.",
                ),
                io.Float.Input(
                    "mask_level",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    optional=True,
                    tooltip="Noise level of what is white in the mask: 1 generates it anew. Ignored without a mask.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="LATENT", tooltip="The same video with these noise levels, to a sampler."
                ),
                io.Image.Output(
                    display_name="timeline",
                    tooltip="A picture of the noise level of every frame.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, noise_levels: str | None = None) -> bool | str:
        try:
            check_entries(parse_entries(noise_levels or ""), LONGEST)
        except ValueError as error:
            return str(error)  # ComfyUI puts the input's name in front
        return True

    @classmethod
    def execute(
        cls, latent: Latent, noise_levels: str, mask: Tensor | None = None, mask_level: float = 1.0
    ) -> io.NodeOutput:
        check_number(mask_level, "mask_level", 0, 1)
        samples = check_samples(latent, "latent", *VAES)
        levels = levels_to_change(latent)
        for frame, level in named_noise_levels(noise_levels, len(levels)).items():
            levels[frame] = level
        of_frames = range_of_frames(levels)[1]
        if mask is not None:
            levels = Given(samples, levels).masked(tokens_of_mask(mask, samples), mask_level).noise_levels
        if empty := frames_without_picture(samples, levels):
            lowest = range_of_frames(levels)[0][empty[0]]
            warn(
                f"noise_levels sets latent frame {empty[0]} to {lowest:g}, but no picture is there, and the sampler "
                f"will refuse it: put VAE Encode Keyframes at that frame before this node, or leave its level at 1. "
                f"Frames without a picture: {', '.join(map(str, empty[:20]))}{', ...' * (len(empty) > 20)}."
            )
        given = holds_picture(samples).nonzero().flatten().tolist()
        timeline = as_image(draw_timeline(levels, frozenset(empty), rough_pictures(latent, given)))
        numbers = {
            "noise_levels": of_frames.tolist(),
            "given": given,
            "frames": [pixel_length(len(levels))],
        }
        shown = {**ui.PreviewImage(timeline, cls=cls).as_dict(), **numbers}
        return io.NodeOutput(with_noise_levels(latent, samples, levels), timeline, ui=shown)
