"""Frame Conditioning Mask: sets the noise levels of individual latent frames of a LATENT."""

from comfy_api.latest import io, ui

from ..pusa_core.analysis.timeline import draw_timeline
from ..pusa_core.sampling.schedule import named_noise_levels
from .comfyui.images import as_image
from .comfyui.latents import Latent, noise_levels_of, with_noise_levels

LONGEST = 1000  # latent frames; longer videos are not expected


def wrong_for_every_length(text: str) -> str | None:
    """Why ``text`` is invalid for a video of any length, or None if it is valid for some length."""
    reason = None
    for frames in range(LONGEST, 0, -1):
        try:
            named_noise_levels(text, frames)
        except ValueError as error:
            reason = reason or str(error)
        else:
            return None
    return reason


class PusaFrameMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PusaFrameMask",
            display_name="Frame Conditioning Mask",
            category="Pusa",
            description="Sets the noise levels of latent frames: 0 keeps a frame exactly, 1 generates it.",
            inputs=[
                io.Latent.Input("latent"),
                io.String.Input(
                    "noise_levels",
                    default="0:0",
                    multiline=True,
                    tooltip="FRAME:LEVEL or FIRST-LAST:LEVEL, separated by commas. Frames are latent frames, -1 is the "
                    'last; p76 is the one that covers pixel frame 76. For example "0:0.3, -1:0.7", "p69-80:0.2", or '
                    'the ramp "0-3:0..0.5". Other frames keep their level.',
                ),
            ],
            outputs=[io.Latent.Output(display_name="LATENT"), io.Image.Output(display_name="timeline")],
        )

    @classmethod
    def validate_inputs(cls, noise_levels: str | None = None) -> bool | str:
        reason = None if noise_levels is None else wrong_for_every_length(noise_levels)
        return True if reason is None else f"noise_levels: {reason}"

    @classmethod
    def execute(cls, latent: Latent, noise_levels: str) -> io.NodeOutput:
        levels = noise_levels_of(latent, "latent")
        for frame, level in named_noise_levels(noise_levels, len(levels)).items():
            levels[frame] = level
        timeline = as_image(draw_timeline(levels))
        masked = with_noise_levels(latent, latent["samples"], levels)
        return io.NodeOutput(masked, timeline, ui=ui.PreviewImage(timeline, cls=cls))
