"""The noise schedule, and noise levels per latent frame.

Frame ``f`` is at ``sigma_f = m_f * sigma``. Its noise level ``m_f`` is 1 for a frame to generate, 0 for a given frame
that is kept exactly, and in between for a given frame that is noised to that level and denoised with the rest.
"""

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from .keyframes import latent_frame_of, pixel_length

TIMESTEPS = 1000.0  # the network's timestep is 1000 sigma

_ENTRY = re.compile(r"(p?)(-?\d+)(?:-(-?\d+))?\s*:\s*(.+)", re.IGNORECASE)
_EXAMPLE = 'write for example "0:0.3, -1:0.7, 3-5:0.2"'


def flow_sigmas(steps: int, shift: float = 5.0) -> Tensor:
    """Noise levels from 1.0 down to 0.0, ``[steps + 1]`` fp32.

    ``u = 1 - k / steps``, ``sigma = shift u / (1 + (shift - 1) u)``: the rectified-flow schedule of Wan and Pusa
    (reference: ``FlowMatchSchedulerPusa.set_timesteps``).
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; at least 1 is needed")
    if not shift > 0:
        raise ValueError(f"shift is {shift}; it must be positive (5.0 is the default)")
    u = 1 - torch.arange(steps + 1, dtype=torch.float64) / steps
    return (shift * u / (1 + (shift - 1) * u)).float()


def named_noise_levels(text: str, num_frames: int) -> dict[int, float]:
    """The frames that ``text`` names, with their levels; syntax as in :func:`parse_noise_levels`."""
    levels: dict[int, float] = {}
    for entry in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        for frame, level in _parse_entry(entry, num_frames):
            if levels.get(frame, level) != level:
                raise ValueError(
                    f'noise levels "{text}" contradict themselves: latent frame {frame} is given both '
                    f"{levels[frame]:g} and {level:g}; name each frame once"
                )
            levels[frame] = level
    return levels


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


def _parse_entry(entry: str, num_frames: int) -> Iterator[tuple[int, float]]:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ValueError(f'noise level entry "{entry}" is not FRAME:LEVEL or FIRST-LAST:LEVEL; {_EXAMPLE}')
    frame_of = _frame_of_pixel if match[1] else _frame
    first = frame_of(match[2], entry, num_frames)
    last = first if match[3] is None else frame_of(match[3], entry, num_frames)
    if first > last:
        raise ValueError(f'noise level entry "{entry}": the range runs backwards ({first} to {last}); swap its ends')
    start, ramp, end = match[4].partition("..")
    start_level = _level(start, entry)
    end_level = _level(end, entry) if ramp else start_level
    if ramp and first == last:
        raise ValueError(f'noise level entry "{entry}": a ramp needs a range of at least two latent frames')
    for frame in range(first, last + 1):
        part = (frame - first) / max(last - first, 1)
        yield frame, start_level + (end_level - start_level) * part


def _frame(text: str, entry: str, num_frames: int) -> int:
    frame = int(text)
    if not -num_frames <= frame < num_frames:
        raise ValueError(
            f'noise level entry "{entry}": latent frame {frame} does not exist; '
            f"there are {num_frames} (0 to {num_frames - 1}, or -1 to -{num_frames} from the end)"
        )
    return frame % num_frames


def _frame_of_pixel(text: str, entry: str, num_frames: int) -> int:
    pixel, pixels = int(text), pixel_length(num_frames)
    if not -pixels <= pixel < pixels:
        raise ValueError(
            f'noise level entry "{entry}": pixel frame {pixel} does not exist; '
            f"there are {pixels} (p0 to p{pixels - 1}, or p-1 to p-{pixels} from the end)"
        )
    return latent_frame_of(pixel % pixels)


def _level(text: str, entry: str) -> float:
    try:
        level = float(text)
    except ValueError:
        raise ValueError(f'noise level entry "{entry}": "{text.strip()}" is not a number; {_EXAMPLE}') from None
    if not 0 <= level <= 1:
        raise ValueError(f'noise level entry "{entry}": {level:g} is outside 0 (keep as given) to 1 (generate)')
    return level


def sigma_table(sigmas: Tensor, noise_levels: Tensor) -> Tensor:
    """``sigma_s * m_f`` as ``[steps + 1, frames]``, from ``sigmas [steps + 1]`` and ``noise_levels [frames]``."""
    return sigmas[:, None] * noise_levels.to(sigmas)[None, :]


def switch_step(sigmas: Tensor, boundary: float) -> int:
    """Number of steps that start at or above ``boundary``: the steps of Wan2.2's high-noise expert."""
    return int((sigmas[:-1] >= boundary).sum())
