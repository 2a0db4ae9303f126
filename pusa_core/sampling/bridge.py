"""New frames between given ones: two clips joined, a span of a clip made anew, a clip made to loop.

All three are one window: the frames before the gap at its start, those after it at its end, and between them frames to
generate. At both seams the noise levels are a ramp, so that the given frames there may give way to the new ones.
"""

from dataclasses import dataclass

from .keyframes import STRIDE, pixel_length

RAMP = (0.1, 0.3)
"""Noise levels of the two given latents at a seam, towards the gap."""
CONTEXT = 2
"""Latents that must be given at each side."""


@dataclass(frozen=True)
class Bridge:
    """Latent frames of a window: ``before`` given, ``new`` generated, ``after`` given."""

    before: int
    new: int
    after: int

    @classmethod
    def of(cls, new_frames: int, frames_before: int, frames_after: int, window: int) -> "Bridge":
        """For a gap of ``new_frames``, between clips of so many pixel frames, in ``window`` latents.

        What the gap leaves of the window is filled from both clips alike, or more from the longer.

        Raises ``ValueError`` for a gap that is no multiple of 4 frames, or too long, and for a clip that is too short.
        """
        new, rest = divmod(new_frames, STRIDE)
        if new < 1 or rest:
            fix = max(STRIDE, round(new_frames / STRIDE) * STRIDE)
            raise ValueError(f"{new_frames} new frames are asked for; latent frames hold {STRIDE}: use {fix}")
        room = window - new
        if room < 2 * CONTEXT:
            most = (window - 2 * CONTEXT) * STRIDE
            raise ValueError(f"{new_frames} new frames leave no room for given ones in a window; {most} do")
        most_before, most_after = (frames_before + STRIDE - 1) // STRIDE, frames_after // STRIDE
        for name, most, least in (("first", most_before, 5), ("second", most_after, 8)):
            if most < CONTEXT:
                raise ValueError(f"the {name} clip is too short to go on from; give one of at least {least} frames")
        before = min(most_before, max(room - most_after, -(-room // 2)))
        return cls(before, new, min(most_after, room - before))

    @property
    def latents(self) -> int:
        return self.before + self.new + self.after

    @property
    def frames(self) -> int:
        """Pixel frames of the window."""
        return pixel_length(self.latents)

    @property
    def frames_before(self) -> int:
        return pixel_length(self.before)

    @property
    def frames_after(self) -> int:
        return STRIDE * self.after

    @property
    def noise_levels(self) -> str:
        """Of the given frames (:func:`pusa_core.parse_noise_levels`)."""
        ramp = list(zip(range(1, len(RAMP) + 1), reversed(RAMP), strict=True))  # 1: next to the gap
        before = [(self.before - distance, level) for distance, level in ramp]
        after = [(self.before + self.new - 1 + distance, level) for distance, level in ramp]
        return ", ".join(f"{frame}:{level:g}" for frame, level in before + after)
