"""Latents at the sigmas of a table -> latents at those of its last row, by one model or by Wan2.2's two experts."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..model.kv_cache import FrozenFrames, KVCache
from ..model.parallel import SequenceParallel
from .sampler import (
    HistoryGuidance,
    NotFiniteError,
    StepCallback,
    VelocityFn,
    conditioned_velocity,
    euler_sample,
    guide,
    guide_by_history,
)
from .schedule import flow_sigmas, switch_step
from .settings import Settings

EXPERT_BOUNDARY = 0.875  # Wan2.2: the low-noise expert takes over below this sigma


def denoise(
    model: nn.Module,
    latents: Tensor,
    table: Tensor,
    context: Tensor,
    negative: Tensor | None,
    settings: Settings,
    *,
    low_noise_model: nn.Module | None = None,
    history: HistoryGuidance | None = None,
    callback: StepCallback | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Sample ``latents``, which are at the sigmas of the first row of ``table``, down to its last row.

    ``history``: guidance by the given frames at the start (:class:`pusa_core.sampling.sampler.HistoryGuidance`). A
    ``low_noise_model`` takes over at the step at which the schedule of ``settings`` passes Wan2.2's boundary; the table
    must have the rows of that schedule. Everything else as in :func:`generate_latents`.
    """
    weight = next(model.parameters())
    device = weight.device if device is None else device
    latents = latents.to(device)
    # moved once: a copy at every step would make the host wait for the GPU at every step
    context = context.to(device, weight.dtype)
    negative = None if negative is None else negative.to(device, weight.dtype)
    steps = len(table) - 1
    sigmas = flow_sigmas(settings.steps, settings.shift)
    low_from = steps if low_noise_model is None else switch_step(sigmas, EXPERT_BOUNDARY)
    for expert, first, last in ((model, 0, low_from), (low_noise_model, low_from, steps)):
        if expert is None or first == last:
            continue
        rows = table[first : last + 1]
        sharded = isinstance(expert, SequenceParallel)
        frozen = FrozenFrames.of_table(rows, settings.given_frames_refresh, whole_frames=sharded)
        velocity = _guided(expert, context, negative, settings.cfg, frozen)
        if history is not None:
            velocity = guide_by_history(velocity, _guided(expert, context, negative, settings.cfg, None), history)
        report = None if callback is None else _offset(callback, first)
        with torch.no_grad():  # not inference_mode: what a model caches must still be usable in training
            try:
                latents = euler_sample(velocity, latents, rows, callback=report)
            except NotFiniteError as error:
                raise NotFiniteError(first + error.step, steps, source_of(expert)) from None
    return latents


def _guided(
    model: nn.Module, context: Tensor, negative: Tensor | None, cfg: float, frozen: FrozenFrames | None
) -> VelocityFn:
    """The model under classifier-free guidance, with a KV cache for each prompt where frames are frozen."""
    unconditional = None if negative is None else _velocity(model, negative, frozen)
    return guide(_velocity(model, context, frozen), unconditional, cfg)


def source_of(model: nn.Module) -> str:
    """The files that a model was loaded from, for a message."""
    return getattr(model, "source", "") or "the model"


def _velocity(model: nn.Module, context: Tensor, frozen: FrozenFrames | None) -> VelocityFn:
    """The model at one prompt, with a KV cache of its own where frames are frozen."""
    network = _in_dtype_of(model)
    if frozen is not None:
        blocks: Any = model.blocks  # a ModuleList, of which nn.Module does not know
        network = partial(KVCache(frozen).velocity, network, blocks)
    return conditioned_velocity(network, context)


def _in_dtype_of(model: nn.Module) -> Callable[..., Tensor]:
    """The model called with latents cast to its own dtype; the velocity comes back in fp32."""
    dtype = next(model.parameters()).dtype

    def call(latents: Tensor, timestep: Tensor, context: Tensor, **options: Any) -> Tensor:
        return model(latents.to(dtype), timestep, context, **options).float()

    return call


def _offset(callback: StepCallback, first: int) -> StepCallback:
    return lambda step, denoised, latents: callback(first + step, denoised, latents)
