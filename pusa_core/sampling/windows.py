"""How a window of latent frames goes on from the frames before it: recipes, and their sigma tables.

A window is what the network sees at once, 21 latent frames. Its first slots are the context: an anchor, the image
latent that begins the video, and the newest latents. The other slots are generated. Positions start anew in every
window, so that the network only ever sees what it was trained on.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .keyframes import check_level

Mode = Literal["chunk", "rolling"]
MODES: tuple[Mode, ...] = ("chunk", "rolling")
_MOST_HISTORY = 16


@dataclass(frozen=True)
class Recipe:
    """How each window is built. ``benchmarks/demo_model/long_video.py`` measures how far a video drifts with each part.

    ``mode``: *chunk* samples all new frames of a window together; *rolling* keeps them on a staircase of levels, and
    ``block`` frames are finished and as many begun at a time. ``anchor``: whether the first latent frame of the video
    is in every window. ``history``: how many of the newest latents are; they are noised to ``levels``, a ramp from the
    older to the newer. ``match_colour``: set mean and deviation of every latent channel of new frames to those of the
    first scene. ``history_guidance``: :class:`pusa_core.sampling.sampler.HistoryGuidance`; 1 is off. ``fade``: a chunk
    makes something else of the newest latent than what was shown of it, a jump at the seam; the difference is added to
    so many new latents, less to each.
    """

    mode: Mode = "chunk"
    anchor: bool = True
    history: int = 2
    levels: tuple[float, float] = (0.1, 0.4)
    match_colour: bool = True
    history_guidance: float = 1.0
    block: int = 4
    fade: int = 6

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f'the mode is "{self.mode}"; choose one of {", ".join(MODES)}')
        if not 0 <= self.history <= _MOST_HISTORY or self.context == 0:
            raise ValueError(
                f"history is {self.history}{'' if self.anchor else ' without an anchor'}; give 1 to {_MOST_HISTORY} "
                f"latent frames (2 is the default)"
            )
        for level in self.levels:
            check_level(level, "the history")
        if not torch.isfinite(torch.tensor(self.history_guidance)):
            raise ValueError(f"history guidance is {self.history_guidance}; give a finite number (1 turns it off)")
        if self.fade < 0:
            raise ValueError(f"fade is {self.fade}; give a number of latent frames (6 is the default, 0 turns it off)")
        if self.block < 1:
            raise ValueError(f"block is {self.block}; at least 1 latent frame is finished at a time (4 is the default)")

    @property
    def context(self) -> int:
        """Slots of a window that are context, once there are enough frames."""
        return int(self.anchor) + self.history

    def context_after(self, length: int) -> int:
        """Slots of the next window that are context after so many latents; one latent is given by itself."""
        return min(length, 1) if length < 2 else int(self.anchor) + min(self.history, length - 1)

    def rolls_after(self, length: int) -> bool:
        """Whether the next window is a rolling one; until the context is full, windows are chunks."""
        return self.mode == "rolling" and length > 1 and self.context_after(length) == self.context

    def ramp(self, history: int) -> Tensor:
        """The noise levels of the newest ``history`` latents; where they are fewer than asked for, the ramp's end."""
        return torch.linspace(*self.levels, self.history)[self.history - history :]

    def check_window(self, window: int) -> None:
        """Raise ``ValueError`` unless windows of so many latent frames can be made."""
        width = window - self.context
        if width < 1:
            raise ValueError(
                f"a window of {window} latent frames has no room for new ones beside {self.context} given; use a "
                f"smaller history, or more frames"
            )
        if self.mode == "rolling" and width % self.block:
            fits = [block for block in range(1, width + 1) if width % block == 0]
            raise ValueError(
                f"rolling with a history of {self.history} leaves {width} new latent frames in a window, which blocks "
                f"of {self.block} do not divide; use blocks of {', '.join(map(str, fits))}, or another history"
            )


def check_experts(recipe: Recipe, count: int) -> None:
    """Raise ``ValueError`` where windows need one model and there are several."""
    if recipe.mode == "rolling" and count > 1:
        raise ValueError("rolling has frames of all noise levels in a window, so it needs one model; use chunk")


CHUNK = Recipe()
ROLLING = Recipe(mode="rolling", history=4)
RECIPES = {recipe.mode: recipe for recipe in (CHUNK, ROLLING)}


def recipe_of(
    mode: str, history: int, levels: str, anchor: bool, match_colour: bool, history_guidance: float, block: int
) -> Recipe:
    """The recipe of a mode with changes; ``history`` 0 and ``levels`` "" are those of the mode."""
    if mode not in RECIPES:
        raise ValueError(f'the mode is "{mode}"; choose one of {", ".join(MODES)}')
    own = RECIPES[mode]
    return Recipe(
        own.mode,
        anchor,
        history or own.history,
        parse_levels(levels) if levels.strip() else own.levels,
        match_colour,
        history_guidance,
        block,
    )


def parse_levels(text: str) -> tuple[float, float]:
    """``LEVEL`` or ``OLDEST..NEWEST``."""
    first, ramp, last = text.partition("..")
    try:
        return float(first), float(last if ramp else first)
    except ValueError:
        raise ValueError(f'"{text}" is not LEVEL or OLDEST..NEWEST, such as 0.1..0.4') from None


def calls_of_shift(width: int, block: int, steps: int) -> int:
    """Network calls in which a rolling window moves by a block, so that every frame is seen in at least ``steps``.

    ``width``: frames in flight. With 16 of them, blocks of 4 and 4 steps it is one call: a quarter for each frame.
    """
    return -(-steps * block // width)


def rolling_table(context: Tensor, width: int, block: int, calls: int, shift: float) -> Tensor:
    """Sigmas ``[calls + 1, F]`` while a rolling window moves by a block.

    The ``context`` levels ``[h]`` do not change. Block ``b`` of the frames in flight descends from ``(b + 1) B / W`` to
    ``b B / W`` of the schedule, where the block before it was: the first block is finished.
    """
    step = torch.arange(calls + 1, dtype=torch.float64)[:, None] / calls
    return _with_context(context, (_blocks(width, block) + 1 - step) * block / width, shift)


def warm_up_table(context: Tensor, width: int, block: int, calls: int, shift: float) -> Tensor:
    """Sigmas ``[n + 1, F]`` from pure noise to the first row of :func:`rolling_table`, ``n = (W / B - 1) calls``."""
    count = (width // block - 1) * calls
    left = 1 - torch.arange(count + 1, dtype=torch.float64)[:, None] / max(count, 1)
    last = block / width
    return _with_context(context, (_blocks(width, block) + 1) * last + left * (1 - last), shift)


def _blocks(width: int, block: int) -> Tensor:
    """The block that each frame in flight is in, ``[W]``."""
    return torch.arange(width, dtype=torch.float64).div(block, rounding_mode="floor")


def _with_context(context: Tensor, u: Tensor, shift: float) -> Tensor:
    u = u.clamp(0, 1)
    sigmas = (shift * u / (1 + (shift - 1) * u)).float()
    return torch.cat((context.to(sigmas).expand(len(sigmas), -1), sigmas), dim=1)
