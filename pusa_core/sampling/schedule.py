"""The noise schedule, and noise levels per latent frame or token.

Frame ``f`` is at ``sigma_f = m_f * sigma``. Its noise level ``m_f`` is 1 for a frame to generate, 0 for a given frame
that is kept exactly, and in between for a given frame that is noised to that level and denoised with the rest.
"""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from .keyframes import latent_frame_of, pixel_length

TIMESTEPS = 1000.0  # the network's timestep is 1000 sigma
PATCH = 2  # rows and columns of latents in a token

# web/js/noise_levels.js reads the same language; one file of texts and messages tests both
_ENTRY = re.compile(r"(p?)(-?[0-9]+)(?:-(-?[0-9]+))?\s*:\s*(.+)", re.IGNORECASE)
_LEVEL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_EXAMPLE = 'write for example "0:0.3, -1:0.7, 3-5:0.2"'
_QUOTED = 60  # characters of an entry that a message repeats
_DIGITS = 9  # of a frame number; no video is longer


def flow_sigmas(steps: int, shift: float = 5.0) -> Tensor:
    """Noise levels from 1.0 down to 0.0, ``[steps + 1]`` fp32.

    ``u = 1 - k / steps``, ``sigma = shift u / (1 + (shift - 1) u)``: the rectified-flow schedule of Wan and Pusa
    (reference: ``FlowMatchSchedulerPusa.set_timesteps``).
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; at least 1 is needed")
    if not 0 < shift < math.inf:
        raise ValueError(f"shift is {shift}; it must be positive and finite (5.0 is the default)")
    u = 1 - torch.arange(steps + 1, dtype=torch.float64) / steps
    return (shift * u / (1 + (shift - 1) * u)).float()


class NoiseLevelEntry(NamedTuple):
    """One entry of a text of noise levels, before the video's length is known.

    ``first``, ``last``: pixel frames with ``pixels``, otherwise latent frames; negative ones count from the end.
    ``start``, ``end``: the levels at both, which differ in a ramp.
    """

    quoted: str
    pixels: bool
    first: int
    last: int
    start: float
    end: float
    ramp: bool

    def span(self, num_frames: int) -> tuple[int, int]:
        """The first and last latent frame in a video of ``num_frames``. Raises ``ValueError`` where there is none."""
        frame_of = _frame_of_pixel if self.pixels else _frame
        first, last = (frame_of(frame, self.quoted, num_frames) for frame in (self.first, self.last))
        if first > last:
            raise ValueError(
                f"noise level entry {self.quoted}: the range runs backwards ({first} to {last}); swap its ends"
            )
        if self.ramp and first == last:
            raise ValueError(f"noise level entry {self.quoted}: a ramp needs a range of at least two latent frames")
        return first, last


class _Span(NamedTuple):
    """An entry placed in a video: ``start`` to ``end``, linear over the latent frames ``first ... last``."""

    first: int
    last: int
    start: float
    end: float
    quoted: str

    def level(self, frame: int) -> float:
        return self.start + (self.end - self.start) * ((frame - self.first) / max(self.last - self.first, 1))


def parse_entries(text: str) -> list[NoiseLevelEntry]:
    """The entries of a text of noise levels; syntax as in :func:`parse_noise_levels`, for a video of any length.

    Takes milliseconds for tens of kilobytes. Raises ``ValueError`` for an entry that does not parse.
    """
    parts = (part.strip() for part in re.split(r"[,;\n]", text))
    return [_parse_entry(part) for part in dict.fromkeys(parts) if part]


def check_entries(entries: Iterable[NoiseLevelEntry], longest: int) -> None:
    """Raise ``ValueError`` for entries that describe no video of up to ``longest`` latent frames.

    How frames counted from the start and those counted from the end meet depends on the length, so each kind is checked
    alone; :func:`named_noise_levels`, which knows the length, does the rest.
    """
    entries = list(entries)
    for from_end in (False, True):
        _place([each for each in entries if (each.first < 0) == from_end == (each.last < 0)], longest)


def named_noise_levels(text: str, num_frames: int) -> dict[int, float]:
    """The frames that ``text`` names, with their levels; syntax as in :func:`parse_noise_levels`."""
    spans = _place(parse_entries(text), num_frames)
    return {frame: span.level(frame) for span in spans for frame in range(span.first, span.last + 1)}


def _place(entries: Iterable[NoiseLevelEntry], num_frames: int) -> list[_Span]:
    """The entries in a video of ``num_frames``. Raises ``ValueError`` where one does not fit, or two contradict."""
    spans = [_Span(*entry.span(num_frames), entry.start, entry.end, entry.quoted) for entry in entries]
    reaching: _Span | None = (
        None  # of the spans so far, the one that ends last: it covers all that the next can overlap
    )
    for span in sorted(spans):
        if reaching is not None and span.first <= reaching.last:
            # both are linear, so they agree everywhere if they agree at both ends of what they share
            for frame in (span.first, min(span.last, reaching.last)):
                if abs(span.level(frame) - reaching.level(frame)) > 1e-9:
                    raise ValueError(
                        f"noise levels contradict each other: {reaching.quoted} gives latent frame {frame} "
                        f"{reaching.level(frame):g}, {span.quoted} gives it {span.level(frame):g}; name each frame once"
                    )
        if reaching is None or span.last > reaching.last:
            reaching = span
    return spans


def parse_noise_levels(text: str, num_frames: int) -> Tensor:
    """Noise levels ``[num_frames]`` from text such as ``"0:0.3, -1:0.7, 3-5:0.2, 6-9:0..0.5"``.

    Entries are separated by commas, semicolons or newlines. An entry is a latent frame or an inclusive range of latent
    frames (negative numbers count from the end), a colon, and a level in 0..1 or a linear ramp ``from..to`` over the
    range. With a ``p`` prefix the numbers are pixel frames: ``p76:0.3`` is the latent frame that covers pixel frame 76,
    ``p69-80:0.2`` are those that cover any of 69 to 80, ``p-1:0`` is the last. Frames not named get 1.0.

    Raises:
        ValueError: an entry that does not parse, is out of range, or contradicts another, with the entry and the fix.
    """
    levels = torch.ones(num_frames)
    for frame, level in named_noise_levels(text, num_frames).items():
        levels[frame] = level
    return levels


def _parse_entry(text: str) -> NoiseLevelEntry:
    quoted = quote(text, _QUOTED)
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise ValueError(f"noise level entry {quoted} is not FRAME:LEVEL or FIRST-LAST:LEVEL; {_EXAMPLE}")
    first = _number(match[2], quoted)
    last = first if match[3] is None else _number(match[3], quoted)
    start, ramp, end = match[4].partition("..")
    level = _level(start, quoted)
    return NoiseLevelEntry(
        quoted, bool(match[1]), first, last, level, _level(end, quoted) if ramp else level, bool(ramp)
    )


def quote(text: str, length: int) -> str:
    """``text`` in quotation marks for a message, cut to ``length`` characters."""
    return f'"{text}"' if len(text) <= length else f'"{text[:length]}..."'


def _number(text: str, quoted: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"noise level entry {quoted}: no video has a frame {quote(text, 20)}")
    return int(text)


def _frame(frame: int, quoted: str, num_frames: int) -> int:
    if not -num_frames <= frame < num_frames:
        raise ValueError(
            f"noise level entry {quoted}: latent frame {frame} does not exist; "
            f"there are {num_frames} (0 to {num_frames - 1}, or -1 to -{num_frames} from the end)"
        )
    return frame % num_frames


def _frame_of_pixel(pixel: int, quoted: str, num_frames: int) -> int:
    pixels = pixel_length(num_frames)
    if not -pixels <= pixel < pixels:
        raise ValueError(
            f"noise level entry {quoted}: pixel frame {pixel} does not exist; "
            f"there are {pixels} (p0 to p{pixels - 1}, or p-1 to p-{pixels} from the end)"
        )
    return latent_frame_of(pixel % pixels)


def _level(text: str, quoted: str) -> float:
    text = text.strip()
    if _LEVEL.fullmatch(text) is None:
        raise ValueError(f"noise level entry {quoted}: {quote(text, 20)} is not a number; {_EXAMPLE}")
    level = float(text)
    if not 0 <= level <= 1:
        raise ValueError(f"noise level entry {quoted}: {level:g} is outside 0 (keep as given) to 1 (generate)")
    return level


def sigma_table(sigmas: Tensor, noise_levels: Tensor) -> Tensor:
    """``sigma_s * m`` as ``[steps + 1, ...]``; ``sigmas [steps + 1]``, ``noise_levels [F]`` or ``[F, h, w]``."""
    return torch.einsum("s,...->s...", sigmas, noise_levels.to(sigmas))


def range_of_frames(levels: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest and the highest of each frame, ``[F]`` both, of levels ``[F]`` or ``[F, h, w]``."""
    low, high = levels.reshape(len(levels), -1).aminmax(dim=1)
    return low, high


def switch_step(sigmas: Tensor, boundary: float) -> int:
    """Number of steps that start at or above ``boundary``: the steps of Wan2.2's high-noise expert."""
    if not math.isfinite(boundary):
        raise ValueError(f"the switch between the two models is at {boundary}; it must be a number from 0 to 1")
    return int((sigmas[:-1] >= boundary).sum())
