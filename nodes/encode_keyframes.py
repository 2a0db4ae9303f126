"""VAE Encode Keyframes: encodes an image or clip and places it in the video."""

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..pusa_core import Given, latent_length, lead_in
from ..pusa_core.sampling.fit import CROP, FITS, fit_pictures, whole_size
from ..pusa_core.sampling.keyframes import STRIDE, clip_start, latent_position
from ..pusa_core.sampling.schedule import PATCH
from .comfyui.inputs import check_number
from .comfyui.latents import VAES, Latent, check_samples, noise_levels_of, with_noise_levels
from .comfyui.notices import warn
from .comfyui.rough_pictures import with_format
from .comfyui.schema import schema

LONGEST = 4001  # pixel frames
LATENT_FRAMES, PIXEL_FRAMES = "latent frames", "pixel frames"


def start_of(clip_frames: int, position: int, counts: str, frames: int) -> int:
    """The first latent frame of a clip of ``clip_frames`` pixel frames in a video of ``frames`` latents."""
    if counts not in (LATENT_FRAMES, PIXEL_FRAMES):
        raise ValueError(f'position_counts is "{counts}"; choose "{LATENT_FRAMES}" or "{PIXEL_FRAMES}"')
    if counts == PIXEL_FRAMES:
        position = latent_position(position, clip_frames, frames)
    return clip_start(clip_frames, position, frames)


def channels_of(vae: Any) -> int:
    """The channels of the latents of the VAE input. Raises ``ValueError`` unless it is a VAE of :data:`VAES`."""
    channels = getattr(vae, "latent_channels", None)
    if channels not in VAES or getattr(vae, "latent_dim", None) != 3:
        raise ValueError(
            "vae is not the Wan2.1 VAE (16 channels, video), nor that of Wan2.2 TI2V-5B (48 channels); load "
            "wan_2.1_vae with Load VAE, or wan2.2_vae for the 5B model"
        )
    return channels


def fit_to_video(image: Tensor, latent: Latent | None, resize: str, stride: int) -> Tensor:
    """``image [T, H, W, C]`` at the size of the video, and a notice where it was not.

    That of ``latent``; without one the nearest size of a video that the picture has. ``stride``: pixels of a latent.
    """
    height, width = image.shape[1:3]
    size = (
        whole_size(width, height, PATCH * stride)
        if latent is None
        else (latent["samples"].shape[4] * stride, latent["samples"].shape[3] * stride)
    )
    fitted = fit_pictures(image, size, resize)
    if fitted is not image:
        how = "cover it, and cropped" if resize == CROP else "fit into it, with black bars"
        warn(f"image is {width} x {height} and the video {size[0]} x {size[1]}: it is scaled to {how}.")
    return fitted


def encode_clip(vae: Any, image: Tensor, start: int, from_end: bool) -> Tensor:
    """Pixel frames ``[T, H, W, C]`` -> the latents ``[1, C, T', h, w]`` of a clip at latent frame ``start``."""
    clip, drop = lead_in(image[..., :3], start, from_end=from_end)
    return vae.encode(clip)[:, :, drop:]


class PusaEncodeKeyframes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PusaEncodeKeyframes",
            display_name="VAE Encode Keyframes",
            category="Pusa",
            search_aliases=[
                *("first frame", "last frame", "start frame", "end frame", "start and end frames", "image to video"),
                *("extend video", "continue video", "video to video", "transition", "I2V", "FLF2V"),
            ],
            advanced=["position_counts"],
            description="Places an image or clip in the video as given frames. Chain several for start and end.",
            inputs=[
                io.Vae.Input("vae", tooltip="The Wan2.1 VAE, or that of Wan2.2 TI2V-5B for its MODEL."),
                io.Image.Input("image", tooltip="An image, or the frames of a clip, of any size."),
                io.Int.Input(
                    "position",
                    default=0,
                    min=-LONGEST,
                    max=LONGEST,
                    tooltip="First latent frame of the image or clip (four pixel frames each, after the first). If "
                    "negative, its last latent frame, counted from the end: -1 is the last frame of the video.",
                ),
                io.Int.Input(
                    "length",
                    default=81,
                    min=1,
                    max=LONGEST,
                    step=STRIDE,
                    tooltip="Number of frames of the video, 4 n + 1. Ignored if a latent is connected.",
                ),
                io.Latent.Input("latent", optional=True, tooltip="Output of another of these nodes, to chain them."),
                io.Combo.Input(
                    "position_counts",
                    options=[LATENT_FRAMES, PIXEL_FRAMES],
                    default=LATENT_FRAMES,
                    optional=True,
                    tooltip="Unit of position. A clip placed by pixel frame must begin at 0, 1, 5, 9, ... or end at "
                    "-1, -5, -9, ...",
                ),
                io.Float.Input(
                    "noise_level",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    optional=True,
                    tooltip="0 keeps the image or clip exactly, more lets it change, 1 generates its frames anew. For "
                    "levels of single frames: Frame Conditioning Mask.",
                ),
                io.Combo.Input(
                    "resize",
                    options=list(FITS),
                    default=CROP,
                    optional=True,
                    tooltip="An image of another size than the video's: crop (scale it to cover, cut what sticks out), "
                    "pad (scale it to fit, black bars) or refuse.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="LATENT",
                    tooltip="The video with these frames given, to a sampler, to Frame Conditioning Mask, or to the "
                    "next of these nodes.",
                )
            ],
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
            return str(error)  # ComfyUI puts the input's name in front
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
        noise_level: float = 0.0,
        resize: str = CROP,
    ) -> io.NodeOutput:
        check_number(noise_level, "noise_level", 0, 1)
        if image.ndim != 4 or not image.numel() or image.shape[-1] < 3:
            raise ValueError(f"image has shape {list(image.shape)}; it must hold a picture, [frames, height, width, 3]")
        channels = channels_of(vae)
        frames = latent_length(length) if latent is None else check_samples(latent, "latent", channels).shape[2]
        start = start_of(len(image), position, position_counts, frames)
        fitted = fit_to_video(image, latent, resize, VAES[channels].pixels)
        keyframe = encode_clip(vae, fitted, start, from_end=position < 0)
        if not keyframe.isfinite().all():
            raise ValueError(
                "image becomes NaN or infinite in the VAE; look for the node before that made such values, or choose "
                "another vae"
            )
        if latent is None:
            given = Given.empty(keyframe, frames)
        else:
            given = Given(latent["samples"].to(keyframe), noise_levels_of(latent, "latent"))
        given = given.place(keyframe, start, noise_level)
        return io.NodeOutput(with_noise_levels(with_format(latent, vae), given.latents, given.noise_levels))
