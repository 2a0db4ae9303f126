"""Pixel frames, latent frames, and the placement of encoded keyframes among the frames to generate.

The Wan VAE turns pixel frame 0 into latent frame 0 and every four pixel frames after it into one more latent frame:
latent frame ``i > 0`` covers pixel frames ``4 i - 3 ... 4 i``.
"""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

log = logging.getLogger(__name__)

STRIDE = 4  # pixel frames per latent frame, after the first
LEAD_IN_FRAMES = 5
"""Pixel frames encoded ahead of a clip that is not at the start (benchmarks/demo_model/LEAD_IN.md)."""


def latent_length(pixel_frames: int) -> int:
    """Latent frames of a video of ``4 n + 1`` pixel frames. Raises ``ValueError`` for other lengths."""
    if pixel_frames < 1 or pixel_frames % STRIDE != 1:
        nearest = max(1, round((pixel_frames - 1) / STRIDE) * STRIDE + 1)
        raise ValueError(f"{pixel_frames} frames: a Wan video has 4 n + 1 frames; use {nearest}")
    return (pixel_frames - 1) // STRIDE + 1


def pixel_length(latent_frames: int) -> int:
    """Pixel frames of a video of that many latent frames."""
    return (latent_frames - 1) * STRIDE + 1


def latent_frame_of(pixel_frame: int) -> int:
    """The latent frame that covers a pixel frame."""
    return (pixel_frame + STRIDE - 1) // STRIDE


def pixel_frames_of(latent_frame: int) -> range:
    """The pixel frames that a latent frame covers."""
    return range(1) if latent_frame == 0 else range(STRIDE * latent_frame - STRIDE + 1, STRIDE * latent_frame + 1)


def check_size(width: int, height: int) -> None:
    """Raise ``ValueError`` unless both sides, in pixels, are divisible by 16 (VAE stride 8, patch 2)."""
    if width % 16 or height % 16 or min(width, height) < 16:
        fix = [max(16, round(side / 16) * 16) for side in (width, height)]
        raise ValueError(f"size {width} x {height}: both sides must be divisible by 16; resize to {fix[0]} x {fix[1]}")


def check_level(level: float, name: str) -> None:
    """Raise ``ValueError`` unless the noise level of ``name`` is in 0..1."""
    if not 0 <= level <= 1:
        raise ValueError(f"{name} has the noise level {level:g}; levels go from 0 (keep as given) to 1 (generate)")


def lead_in(
    clip: Tensor, latent_position: int, frames: int = LEAD_IN_FRAMES, *, from_end: bool = False
) -> tuple[Tensor, int]:
    """Pad a clip that starts at a latent frame for the causal VAE; also returns how many leading latents to drop.

    The VAE encodes its first frame as a still image and every later group of four frames conditioned on the past. So a
    clip at latent frame 0 is encoded as it is, and any other clip with its first frame repeated ``frames`` times ahead
    of it: all of its latents are then of the kind that the decoder expects there. A clip that does not fill its last
    latent has its last frame repeated; with ``from_end``, its first frame, so that its end stays in place.

    Args:
        clip: pixel frames ``[T, ...]``.
        latent_position: latent frame, not negative.
        frames: length of the lead-in, ``4 n + 1``.
        from_end: the clip is positioned by its end.

    Returns:
        Frames ``[T', ...]`` with ``T'`` of the form ``4 n + 1``, and the number of latents to drop.

    Raises ``ValueError`` for a clip without frames.
    """
    length = clip.shape[0]
    if not length:
        raise ValueError("the clip has no frames; give at least one")
    front = 0 if latent_position == 0 else frames
    fill = -(front + length - 1) % STRIDE
    before, after = (front + fill, 0) if from_end and front else (front, fill)
    if fill and length > 1:  # a picture fills its latent frame by being repeated
        log.warning(
            "a clip of %d frames does not fill its latent frames: its %s frame is shown %d times; %d frames fill them",
            length,
            "last" if after else "first",
            fill + 1,
            length + fill,
        )
    parts = [clip[:1].expand(before, *clip.shape[1:]), clip, clip[-1:].expand(after, *clip.shape[1:])]
    return torch.cat(parts), latent_length(front) if front else 0


def clip_start(clip_frames: int, position: int, frames: int) -> int:
    """The latent frame at which a clip of pixel frames begins in a video of ``frames`` latents.

    ``position`` as in :func:`first_latent`. Raises ``ValueError`` when the clip does not fit; call it before encoding.
    """
    start = first_latent(position, -(-clip_frames // STRIDE), frames)
    if start == 0:
        first_latent(0, latent_frame_of(clip_frames - 1) + 1, frames)
    return start


def latent_position(pixel_frame: int, clip_frames: int, frames: int) -> int:
    """Convert a position in pixel frames to one in latent frames (:func:`first_latent`).

    Non-negative: the first frame; negative: the last frame, counted from the end. A single image may be anywhere and
    goes to the latent frame that covers the pixel frame. A clip must begin (or end) where a latent frame does.

    Raises:
        ValueError: no such pixel frame, or a clip that would begin or end within a latent frame.
    """
    pixels = pixel_length(frames)
    if not -pixels <= pixel_frame < pixels:
        raise ValueError(
            f"pixel frame {pixel_frame} does not exist: the video has {pixels} "
            f"(0 to {pixels - 1}, or -1 to -{pixels} from the end)"
        )
    from_end = pixel_frame < 0
    latent = latent_frame_of(pixel_frame % pixels)
    held = pixel_frames_of(latent)
    edge = held[-1] - pixels if from_end else held[0]
    if clip_frames > 1 and pixel_frame != edge:
        raise ValueError(
            f"a clip cannot {'end' if from_end else 'begin'} at pixel frame {pixel_frame}, in the middle of a latent "
            f"frame ({held[0]} to {held[-1]}); use {edge}"
        )
    return latent - frames if from_end else latent


@dataclass(frozen=True)
class Given:
    """Conditioning of a video: ``latents [B, C, F, H, W]`` and ``noise_levels``, 1 where nothing is given.

    Noise levels are ``[F]`` or, from :meth:`masked`, ``[F, h, w]`` of tokens.
    """

    latents: Tensor
    noise_levels: Tensor

    @classmethod
    def empty(cls, like: Tensor, frames: int) -> "Given":
        """No frame given: zeros of ``frames`` latent frames, other sizes as in ``like [B, C, F', H, W]``."""
        batch, channels, _, height, width = like.shape
        return cls(like.new_zeros(batch, channels, frames, height, width), torch.ones(frames))

    def place(self, keyframe: Tensor, position: int, noise_level: float = 0.0) -> "Given":
        """A copy with ``keyframe [B, C, T, H, W]`` at ``position`` (:func:`first_latent`).

        Raises:
            ValueError: the keyframe does not fit, has another size, or falls on a frame already given; a noise level
                outside 0..1.
        """
        check_level(noise_level, f"the keyframe at {position}")
        frames, length = self.latents.shape[2], keyframe.shape[2]
        if not length:
            raise ValueError(f"the keyframe at {position} is empty; it must have at least 1 latent frame")
        start = first_latent(position, length, frames)
        if keyframe.shape[-2:] != self.latents.shape[-2:] or keyframe.shape[1] != self.latents.shape[1]:
            raise ValueError(
                f"keyframe latents of shape {tuple(keyframe.shape)} do not fit a video of {tuple(self.latents.shape)}; "
                f"resize the picture to {self.latents.shape[-1] * 8} x {self.latents.shape[-2] * 8}"
            )
        clash = [frame for frame in range(start, start + length) if (self.noise_levels[frame] < 1).any()]
        if clash:
            raise ValueError(f"latent frame {clash[0]} is given twice; move one of the two keyframes")
        latents, levels = self.latents.clone(), self.noise_levels.clone()
        latents[:, :, start : start + length] = keyframe
        levels[start : start + length] = noise_level
        return Given(latents, levels)

    def masked(self, mask: Tensor, level: float = 1.0) -> "Given":
        """A copy with parts at ``level``. ``mask [F, h, w]``: 0 keeps the present level, 1 is ``level``.

        Called when all keyframes are placed.
        """
        own = self.noise_levels if self.noise_levels.ndim == 3 else self.noise_levels[:, None, None]
        return Given(self.latents, own.lerp(own.new_tensor(level), mask.to(own)))


def first_latent(position: int, length: int, frames: int) -> int:
    """The first latent frame of a keyframe of ``length`` latents in a video of ``frames`` latents.

    ``position`` is that frame, or, if negative, the keyframe's last frame, counted from the end: -1 ends the video with
    the keyframe.

    Raises:
        ValueError: the keyframe does not fit there.
    """
    if not -frames <= position < frames:
        raise ValueError(
            f"position {position} does not exist: the video has {frames} latent frames "
            f"(0 to {frames - 1}, or -1 to -{frames} from the end)"
        )
    if length > frames:
        raise ValueError(
            f"a clip of {length} latent frames does not fit a video of {frames}; shorten it, or make the video longer"
        )
    start = position if position >= 0 else frames + position - length + 1
    if start < 0:
        raise ValueError(
            f"a clip of {length} latent frames cannot end at latent frame {frames + position}; shorten it, or end it "
            f"at {length - 1} or later"
        )
    if start + length > frames:
        raise ValueError(
            f"a clip of {length} latent frames at latent frame {start} does not fit a video of {frames}; "
            f"shorten it, or start at {max(frames - length, 0)} or before"
        )
    return start
