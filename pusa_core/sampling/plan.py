"""Which latents of a long video each hop makes, and by which prompt."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .keyframes import STRIDE, latent_frame_of
from .windows import Recipe

_TIMED = re.compile(r"\s*(?P<seconds>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*s\s*:\s*(?P<text>.*)", re.DOTALL)
LONGEST = 24 * 3600.0
"""Seconds; longer videos are taken for a mistake."""

Span = tuple[float, str]
"""The second from which a prompt holds, and the prompt."""


def parse_prompts(texts: Sequence[str]) -> tuple[Span, ...]:
    """The spans of ``TEXT``, which holds from the start, and ``"10s: TEXT"``, which holds from second 10.

    Raises ``ValueError`` unless there is one for the start, and no two begin together.
    """
    spans = []
    for text in texts:
        match = _TIMED.fullmatch(text)
        spans.append((float(match["seconds"]), match["text"].strip()) if match else (0.0, text.strip()))
    spans.sort(key=lambda span: span[0])
    if not spans or spans[0][0] > 0:
        raise ValueError('no prompt holds from the start; give one without a time, such as --prompt "a cat walks"')
    for (start, one), (then, other) in pairwise(spans):
        if start == then:
            raise ValueError(f'two prompts begin at {start:g} s: "{one}" and "{other}"; give one of them a later time')
    return tuple(spans)


def split_prompts(text: str) -> list[str]:
    """The prompts of a text: one begins at every line ``10s: TEXT``, other lines go on with the one before."""
    prompts: list[str] = []
    for line in text.splitlines():
        if prompts and not _TIMED.fullmatch(line):
            prompts[-1] += f"\n{line}"
        else:
            prompts.append(line)
    return prompts or [""]


@dataclass(frozen=True)
class Hop:
    """One window of a long video, counted from 1.

    ``count``: new latents of it that are used. ``start``: new latents before them. ``prompt``: its text. ``blocks``: of
    a rolling window, how many are finished.
    """

    number: int
    start: int
    count: int
    prompt: str
    blocks: int = 0


@dataclass(frozen=True)
class Timeline:
    """Pixel frames of a video that begins with ``given`` frames, at ``fps``, and has ``total``."""

    given: int
    total: int
    fps: int

    @property
    def latents(self) -> int:
        """New latent frames that hold the frames to be made; the last may hold frames too many."""
        if not self.given:
            return latent_frame_of(self.total - 1) + 1
        return -(-(self.total - self.given) // STRIDE)

    def first_frame(self, latent: int) -> int:
        """The first pixel frame of a new latent."""
        if self.given:
            return self.given + STRIDE * latent
        return max(0, STRIDE * latent - STRIDE + 1)

    def latent_at(self, seconds: float) -> int:
        """The new latent that begins nearest to a time."""
        frame = seconds * self.fps
        latent = max(0, int((frame - self.given) // STRIDE))
        return min((latent, latent + 1, latent + 2), key=lambda each: abs(self.first_frame(each) - frame))


def plan_hops(timeline: Timeline, spans: Sequence[Span], recipe: Recipe, window: int, known: int) -> tuple[Hop, ...]:
    """The hops of a video of which ``known`` latents are given, in windows of ``window`` latents.

    A hop ends where another prompt begins: the rest of its window is not used. A rolling window ends at the next block.
    """
    recipe.check_window(window)
    starts = [timeline.latent_at(seconds) if seconds else 0 for seconds, _ in spans]
    hops: list[Hop] = []
    done = 0
    while done < timeline.latents:
        index = bisect_right(starts, done)
        end = min([timeline.latents, *starts[index : index + 1]])
        length = known + done
        count, blocks = min(end - done, window - recipe.context_after(length)), 0
        if recipe.rolls_after(length):
            blocks = -(-count // recipe.block)
            count = min(blocks * recipe.block, timeline.latents - done)
        hops.append(Hop(len(hops) + 1, done, count, spans[index - 1][1], blocks))
        done += count
    return tuple(hops)
