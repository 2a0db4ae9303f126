"""VAE Encode Keyframes: puts a picture or a clip at a place of the video to be made."""

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..pusa_core import Given, latent_length, lead_in
from ..pusa_core.sampling.keyframes import STRIDE, check_size, clip_start, latent_position
from .comfyui.latents import CHANNELS, Latent, check_samples, noise_levels_of, with_noise_levels

LONGEST = 4001  # pixel frames
LATENT_FRAMES, PIXEL_FRAMES = "latent frames", "pixel frames"


def start_of(clip_frames: int, position: int, counts: str, frames: int) -> int:
    """The latent frame at which a clip of pixel frames begins in a video of ``frames`` latents."""
    if counts not in (LATENT_FRAMES, PIXEL_FRAMES):
        raise ValueError(f'position_counts is "{counts}"; choose "{LATENT_FRAMES}" or "{PIXEL_FRAMES}"')
    if counts == PIXEL_FRAMES:
        position = latent_position(position, clip_frames, frames)
    return clip_start(clip_frames, position, frames)


def encode_clip(vae: Any, image: Tensor, start: int, from_end: bool) -> Tensor:
    """Pixel frames ``[T, H, W, C]`` -> the latents ``[1, 16, T', h, w]`` of a clip at latent frame ``start``."""
    clip, drop = lead_in(image[..., :3], start, from_end=from_end)
    return vae.encode(clip)[:, :, drop:]


class PusaEncodeKeyframes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PusaEncodeKeyframes",
            display_name="VAE Encode Keyframes",
            category="Pusa",
            description="Gives the video a picture or a clip at some frame. Chain several for start, end and middle.",
            inputs=[
                io.Vae.Input("vae", tooltip="The Wan2.1 VAE."),
                io.Image.Input("image", tooltip="One picture, or the frames of a clip; sides divisible by 16."),
                io.Int.Input(
                    "position",
                    default=0,
                    min=-LONGEST,
                    max=LONGEST,
                    tooltip="Latent frame (four pixel frames each, after the first) where the picture or clip starts. "
                    "A negative number says where it ends, counted from the end: -1 ends it at the last frame.",
                ),
                io.Int.Input(
                    "length",
                    default=81,
                    min=1,
                    max=LONGEST,
                    step=STRIDE,
                    tooltip="Frames of the video, 4 n + 1. Not used when a latent is connected.",
                ),
                io.Latent.Input("latent", optional=True, tooltip="A video to add to, from another of these nodes."),
                io.Combo.Input(
                    "position_counts",
                    options=[LATENT_FRAMES, PIXEL_FRAMES],
                    default=LATENT_FRAMES,
                    optional=True,
                    tooltip="What position counts. A clip placed by pixel frame must begin at 0, 1, 5, 9, ... or end "
                    "at -1, -5, -9, ...",
                ),
            ],
            outputs=[io.Latent.Output(display_name="LATENT")],
        )

    @classmethod
    def validate_inputs(cls, length: int | None = None) -> bool | str:
        if length is None:
            return True
        if not 1 <= length <= LONGEST:
            return f"length is {length}; it must be between 1 and {LONGEST}"
        try:
            latent_length(length)
        except ValueError as error:
            return f"length: {error}"
        return True

    @classmethod
    def execute(
        cls,
        vae: Any,
        image: Tensor,
        position: int,
        length: int,
        latent: Latent | None = None,
        position_counts: str = LATENT_FRAMES,
    ) -> io.NodeOutput:
        check_size(image.shape[2], image.shape[1])
        if getattr(vae, "latent_channels", None) != CHANNELS or getattr(vae, "latent_dim", None) != 3:
            raise ValueError("vae is not the Wan2.1 VAE (16 channels, video); load wan_2.1_vae with Load VAE")
        frames = latent_length(length) if latent is None else check_samples(latent, "latent").shape[2]
        start = start_of(len(image), position, position_counts, frames)
        keyframe = encode_clip(vae, image, start, from_end=position < 0)
        if latent is None:
            given = Given.empty(keyframe, frames)
        else:
            given = Given(latent["samples"].to(keyframe), noise_levels_of(latent, "latent"))
        given = given.place(keyframe, start)
        return io.NodeOutput(with_noise_levels(latent or {}, given.latents, given.noise_levels))
