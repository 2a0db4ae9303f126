"""A video of any length, window by window: what each window is given, and what it makes.

Latents are handed from window to window as they are, never decoded and encoded again, and only the newest are held, so
that memory does not grow. The network is asked through a :data:`Sample`, which this file knows nothing of.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .colour import ChannelStatistics
from .keyframes import latent_length
from .sampler import HistoryGuidance, start_latents
from .schedule import flow_sigmas, sigma_table
from .settings import Settings
from .windows import Recipe, calls_of_shift, rolling_table, warm_up_table


@dataclass(frozen=True)
class Window:
    """What a network samples: ``given`` and ``noise [1, C, F, H, W]``, and the sigmas ``table [rows, F]``.

    The first ``context`` frames are given. With ``continues``, ``given`` is at the sigmas of the first row already;
    otherwise it is mixed with the noise (:func:`pusa_core.start_latents`). ``seed``: of the noise.
    """

    given: Tensor
    noise: Tensor
    table: Tensor
    context: int
    seed: int
    continues: bool = False

    @property
    def start(self) -> Tensor:
        return self.given if self.continues else start_latents(self.noise, self.given, self.table[0])

    def history(self, recipe: Recipe) -> HistoryGuidance | None:
        """The guidance by the context that the recipe asks for, if it asks for any."""
        if recipe.history_guidance == 1 or not self.context:
            return None
        return HistoryGuidance(self.context, recipe.history_guidance, self.noise)


Sample = Callable[[Window, str], Tensor]
"""``sample(window, prompt)`` -> the window's latents ``[1, C, F, H, W]`` at the last row of its table."""


@dataclass(frozen=True)
class Made:
    """What a hop makes: new ``latents [1, C, F, H, W]``, and of a rolling window the frames ``in_flight`` after it."""

    latents: Tensor
    in_flight: Tensor | None = None


@dataclass(frozen=True)
class Past:
    """All that the next window needs to know of the video so far.

    ``newest [1, C, F, H, W]``: the last latents, at most ``window``. ``anchor [1, C, 1, H, W]``: the image latent of
    the first frame. ``reference``: of the first scene. ``length``: latents so far.
    """

    newest: Tensor
    window: int
    anchor: Tensor | None = None
    reference: ChannelStatistics | None = None
    in_flight: Tensor | None = None
    length: int = 0

    @classmethod
    def start(cls, given: Tensor, window: int, still: Tensor | None = None) -> "Past":
        """From the latents of a clip or picture ``[1, C, F, H, W]``, which begin with an image latent; or from none.

        A clip is a scene of its own, the first. A picture is the beginning of one, whose colours are those of the
        latents ``still`` where they are given: of the picture standing still, behind its image latent.
        """
        count = given.shape[2]
        anchor = given[:, :, :1] if count else None
        coloured = given if count > 1 else still
        reference = None if coloured is None else ChannelStatistics.of(coloured)
        return cls(given[:, :, -window:], window, anchor, reference, length=count)

    def context(self, recipe: Recipe) -> tuple[Tensor, Tensor]:
        """The latents ``[1, C, h, H, W]`` at the start of the next window, and their noise levels ``[h]``."""
        count = recipe.context_after(self.length)
        if self.anchor is None or count == 0:
            return self.newest[:, :, :0], torch.zeros(0)
        if self.length == 1:
            return self.anchor, torch.zeros(1)
        history = count - int(recipe.anchor)
        latents, levels = self.newest[:, :, self.newest.shape[2] - history :], recipe.ramp(history)
        if not recipe.anchor:
            return latents, levels
        return torch.cat((self.anchor, latents), dim=2), torch.cat((torch.zeros(1), levels))

    def followed_by(self, made: Made, used: int | None = None) -> "Past":
        """The video with the first ``used`` latents of ``made`` (default: all)."""
        latents = made.latents[:, :, :used]
        newest = torch.cat((self.newest, latents), dim=2)[:, :, -self.window :].contiguous()
        reference = ChannelStatistics.of(newest) if self.reference is None else self.reference
        anchor = latents[:, :, :1] if self.anchor is None else self.anchor
        length = self.length + latents.shape[2]
        return replace(self, newest=newest, anchor=anchor, reference=reference, in_flight=made.in_flight, length=length)

    def matched(self, latents: Tensor, recipe: Recipe) -> Tensor:
        """New latents in the colours of the first scene."""
        return latents if self.reference is None or not recipe.match_colour else self.reference.match(latents)


def make_hop(
    past: Past, recipe: Recipe, settings: Settings, seed: int, prompt: str, blocks: int, sample: Sample
) -> Made:
    """Sample the next latents of a video. ``blocks``: how many blocks a rolling window finishes."""
    if not recipe.rolls_after(past.length):
        return make_chunk(past, recipe, settings, seed, prompt, sample)
    return make_blocks(past, recipe, settings, seed, prompt, blocks, sample)


def make_chunk(past: Past, recipe: Recipe, settings: Settings, seed: int, prompt: str, sample: Sample) -> Made:
    """All new frames of a window, sampled together; the history is noised to its levels and denoised along.

    What the window makes of the history is not shown, but how it differs from what was shown fades out over the seam.
    """
    given, levels = past.context(recipe)
    new = past.window - len(levels)
    draw = _noise_like(past.newest, seed)
    given = torch.cat((given, _zeros(past.newest, new)), dim=2)
    table = sigma_table(flow_sigmas(settings.steps, settings.shift), torch.cat((levels, torch.ones(new))))
    sampled = sample(Window(given, draw(past.window), table, len(levels), seed), prompt)
    made = past.matched(sampled[:, :, len(levels) :], recipe)
    if len(levels) and recipe.fade:
        jump = given[:, :, len(levels) - 1] - past.matched(sampled, recipe)[:, :, len(levels) - 1]
        weight = torch.linspace(1, 0, recipe.fade + 2)[1:-1][:new]
        made[:, :, : len(weight)] += jump[:, :, None] * weight.view(-1, 1, 1)
    return Made(made)


def make_blocks(
    past: Past, recipe: Recipe, settings: Settings, seed: int, prompt: str, blocks: int, sample: Sample
) -> Made:
    """``blocks`` blocks of a rolling window. The history is shown at its levels with fresh noise, and not changed."""
    width = past.window - recipe.context
    calls = calls_of_shift(width, recipe.block, settings.steps)
    draw = _noise_like(past.newest, seed)

    def roll(in_flight: Tensor, table_of: Callable[..., Tensor]) -> Tensor:
        given, levels = past.context(recipe)
        noise = torch.cat((draw(len(levels)), torch.zeros_like(in_flight)), dim=2)
        table = table_of(levels, width, recipe.block, calls, settings.shift)
        context = start_latents(noise[:, :, : len(levels)], given, levels)
        window = Window(torch.cat((context, in_flight), dim=2), noise, table, len(levels), seed, continues=True)
        return sample(window, prompt)[:, :, len(levels) :]

    in_flight = roll(draw(width), warm_up_table) if past.in_flight is None else past.in_flight
    made = []
    for _ in range(blocks):
        moved = roll(in_flight, rolling_table)
        made.append(past.matched(moved[:, :, : recipe.block], recipe))
        in_flight = torch.cat((moved[:, :, recipe.block :], draw(recipe.block)), dim=2)
        past = past.followed_by(Made(made[-1]))
    return Made(torch.cat(made, dim=2), in_flight)


def window_of(settings: Settings) -> int:
    """Latent frames of a window."""
    return latent_length(settings.frames)


def _zeros(like: Tensor, frames: int) -> Tensor:
    return like.new_zeros(*like.shape[:2], frames, *like.shape[3:])


def _noise_like(latents: Tensor, seed: int) -> Callable[[int], Tensor]:
    """``draw(frames)``: the next noise of a seed, drawn on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    batch, channels, _, height, width = latents.shape

    def draw(frames: int) -> Tensor:
        return torch.randn(batch, channels, frames, height, width, generator=generator)

    return draw
