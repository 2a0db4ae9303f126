"""Frame Conditioning Mask: sets the noise levels of individual latent frames of a LATENT."""

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..pusa_core.analysis.timeline import draw_timeline
from ..pusa_core.sampling.keyframes import pixel_length
from ..pusa_core.sampling.schedule import check_entries, named_noise_levels, parse_entries
from .comfyui.images import as_image
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


class PusaFrameMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PusaFrameMask",
            display_name="Frame Conditioning Mask",
            category="Pusa",
            search_aliases=["timeline", "noise level", "noise multipliers", "per-frame noise", "denoise per frame"],
            description="Sets the noise levels of latent frames: 0 keeps a frame exactly, 1 generates it.",
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
            ],
            outputs=[
                io.Latent.Output(
                    display_name="LATENT", tooltip="The same video with these noise levels, to a sampler."
                ),
                io.Image.Output(display_name="timeline", tooltip="A picture of the noise level of every frame."),
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
    def execute(cls, latent: Latent, noise_levels: str) -> io.NodeOutput:
        samples = check_samples(latent, "latent", *VAES)
        levels = levels_to_change(latent)
        for frame, level in named_noise_levels(noise_levels, len(levels)).items():
            levels[frame] = level
        if empty := frames_without_picture(samples, levels):
            warn(
                f"noise_levels sets latent frame {empty[0]} to {levels[empty[0]]:g}, but no picture is there, and the "
                f"sampler will refuse it: put VAE Encode Keyframes at that frame before this node, or leave its level "
                f"at 1. Frames without a picture: {', '.join(map(str, empty[:20]))}{', ...' * (len(empty) > 20)}."
            )
        given = holds_picture(samples).nonzero().flatten().tolist()
        timeline = as_image(draw_timeline(levels, frozenset(empty), rough_pictures(samples, given)))
        numbers = {
            "noise_levels": levels.tolist(),
            "given": given,
            "frames": [pixel_length(len(levels))],
        }
        shown = {**ui.PreviewImage(timeline, cls=cls).as_dict(), **numbers}
        return io.NodeOutput(with_noise_levels(latent, samples, levels), timeline, ui=shown)
