"""The per-frame Euler sampler inside ComfyUI's own sampling: guidance, hooks, previews and interrupts are ComfyUI's."""

from collections.abc import Callable
from functools import partial
from typing import Any

import comfy.sample
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...pusa_core import euler_sample, start_latents, switch_step
from ...pusa_core.model.kv_cache import FrozenFrames
from ...pusa_core.sampling.sampler import HistoryGuidance, NotFiniteError, VelocityFn, guide_by_history, per_frame
from ...pusa_core.sampling.schedule import TIMESTEPS, range_of_frames
from .model import describe_files
from .network import CACHES, KVCaches
from .noise_levels import read_noise_levels
from .timesteps import PerFrameSampler, StepCallback, at_timesteps


class PusaEuler(PerFrameSampler):
    """A SAMPLER that runs :func:`pusa_core.euler_sample` down ``table [steps + 1, F]`` or ``[steps + 1, F, h, w]``.

    ``continues``: the input latents are already at the noise levels of the table's first row; no noise is added.
    ``refresh``: as in :class:`pusa_core.model.kv_cache.FrozenFrames`; 1: no cache. ``history``: guidance by the given
    frames at the start.
    """

    def __init__(
        self, table: Tensor, continues: bool = False, refresh: int = 1, history: HistoryGuidance | None = None
    ) -> None:
        self.table = table
        self.levels = table.amax(0)
        self.continues = continues
        self.refresh = refresh
        self.history = history

    def levels_at(self, step: int, sigmas: Tensor) -> Tensor:
        return self.table[step]

    def sample(
        self,
        model_wrap: Callable[..., Tensor],  # ComfyUI's guider
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: StepCallback | None,
        noise: Tensor,
        latent_image: Tensor,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        table = self.table.to(noise)
        done = 0  # steps
        frame = preview_frame(self.table)

        frozen = FrozenFrames.of_table(self.table, self.refresh)
        caches = None if frozen is None else KVCaches(frozen)

        def velocity(latents: Tensor, timesteps: Tensor, caches: KVCaches | None = caches) -> Tensor:
            options = at_timesteps(extra_args["model_options"], timesteps, **{CACHES: caches})
            sigma = sigmas[done].expand(latents.shape[0])
            denoised = model_wrap(latents, sigma, model_options=options, seed=extra_args.get("seed"))
            level = per_frame(timesteps / TIMESTEPS, latents)
            return torch.where(level > 0, (latents - denoised) / level, 0.0)

        guided: VelocityFn = velocity
        if self.history is not None:
            guided = guide_by_history(velocity, partial(velocity, caches=None), self.history)

        def report(step: int, denoised: Tensor, latents: Tensor) -> None:
            nonlocal done
            done = step + 1
            if callback is not None:
                callback(step, denoised[:, :, frame : frame + 1], latents, len(table) - 1)

        start = latent_image if self.continues else start_latents(noise, latent_image, table[0])
        return euler_sample(guided, start, table, callback=report)


def preview_frame(table: Tensor) -> int:
    """The median frame of those at the highest noise level; a preview of a given frame would look finished."""
    levels = range_of_frames(table[0])[1]
    return int((levels == levels.max()).nonzero().flatten().median())


Stage = tuple[ModelPatcher, Tensor, Tensor]
"""A MODEL, and the part of ``sigmas [steps + 1]`` and ``table [steps + 1, F]`` or ``[.., F, h, w]`` that is its own."""

Show = Callable[[int, Tensor, Tensor], None]
"""``show(step, denoised, latents)`` after each step of all stages."""


def split_stages(model: Any, model_low: Any, sigmas: Tensor, table: Tensor, switch: float) -> list[Stage]:
    """The steps of each model: all for ``model``, except those below noise level ``switch`` for ``model_low``."""
    if model_low is None:
        return [(model, sigmas, table)]
    first = switch_step(sigmas, switch)
    stages = [(model, sigmas[: first + 1], table[: first + 1]), (model_low, sigmas[first:], table[first:])]
    return [stage for stage in stages if len(stage[1]) > 1]


def sample_frames(
    stages: list[Stage],
    positive: list,
    negative: list,
    cfg: float,
    seed: int,
    given: Tensor,
    batch_index: list[int] | None = None,
    refresh: int = 1,
) -> Tensor:
    """Sample through consecutive stages, with the noise of a seed.

    ``given [B, C, F, H, W]`` and the result are raw VAE latents. Frames that stay at noise level 0 are returned
    bit-exactly. ``refresh`` as in :class:`PusaEuler`.

    Raises ``ValueError`` for a result that is NaN or infinite, with model, LoRA and step.
    """
    noise = comfy.sample.prepare_noise(given, seed, batch_index)
    total = sum(len(sigmas) - 1 for _, sigmas, _ in stages)
    preview = latent_preview.prepare_callback(stages[0][0], total)

    def show(step: int, denoised: Tensor, latents: Tensor) -> None:
        preview(step, denoised, latents, total)

    return sample_stages(stages, positive, negative, cfg, seed, given, noise, show, refresh)


def sample_stages(
    stages: list[Stage],
    positive: list,
    negative: list,
    cfg: float,
    seed: int,
    given: Tensor,
    noise: Tensor,
    show: Show,
    refresh: int = 1,
    *,
    continues: bool = False,
    history: HistoryGuidance | None = None,
) -> Tensor:
    """:func:`sample_frames` with ``noise`` like ``given``; ``continues`` and ``history`` as in :class:`PusaEuler`."""
    latents, done, total = given, 0, sum(len(sigmas) - 1 for _, sigmas, _ in stages)
    for model, sigmas, table in stages:

        def callback(step: int, denoised: Tensor, x: Tensor, steps: int, offset: int = done) -> None:
            show(offset + step, denoised, x)

        sampler = PusaEuler(table, continues=continues or done > 0, refresh=refresh, history=history)
        arguments = (read_noise_levels(model), noise, cfg, sampler, sigmas, positive, negative, latents)
        try:
            latents = comfy.sample.sample_custom(*arguments, callback=callback, seed=seed)
        except NotFiniteError as error:
            raise NotFiniteError(done + error.step, total, describe_files(model)) from None
        done += len(sigmas) - 1
    return latents
