"""The per-frame Euler sampler: every latent frame integrates the flow along its own column of noise levels."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..model.kv_cache import GivenFrames
from .schedule import TIMESTEPS

VelocityFn = Callable[..., Tensor]
"""``velocity_fn(latents [B, C, F, H, W], timesteps [F]) -> velocity`` like ``latents``.

With ``given_frames_refresh`` it gets the run's :class:`pusa_core.model.kv_cache.GivenFrames` as a third argument.
"""

StepCallback = Callable[[int, Tensor, Tensor], None]
"""``callback(step, denoised, latents)`` after each step; ``denoised`` is the network's present guess of the result."""


def per_frame(values: Tensor, like: Tensor) -> Tensor:
    """``[F]`` -> ``[1, 1, F, 1, 1]`` on the device and in the dtype of ``like``."""
    return values.to(like).view(1, 1, -1, 1, 1)


def start_latents(noise: Tensor, given: Tensor, sigmas: Tensor) -> Tensor:
    """Where sampling starts: ``(1 - sigma_f) given + sigma_f noise``.

    Args:
        noise, given: ``[B, C, F, H, W]``; ``given`` is read only in frames whose sigma is below 1.
        sigmas: ``[F]``, the first row of a sigma table. A frame with sigma 0 keeps the bits of ``given``.
    """
    sigma = per_frame(sigmas, noise)
    mixed = (1 - sigma) * given + sigma * noise
    return torch.where(sigma == 0, given, torch.where(sigma < 1, mixed, noise))


def euler_sample(
    velocity_fn: VelocityFn,
    latents: Tensor,
    table: Tensor,
    *,
    truncate_timesteps: bool = False,
    callback: StepCallback | None = None,
    given_frames_refresh: int = 1,
) -> Tensor:
    """Integrate ``d latents_f = v_f d sigma_f`` down the rows of ``table``.

    Args:
        velocity_fn: the network, guidance included.
        latents: ``[B, C, F, H, W]`` at the noise levels of the table's first row (:func:`start_latents`).
        table: ``[steps + 1, F]`` noise levels. Rows need not be proportional to each other. A frame whose level does
            not change in a step keeps its bits in that step.
        truncate_timesteps: cut timesteps to integers, and freeze frames whose integer timestep is 0, as the public
            Pusa scripts do. For comparisons only.
        callback: called after each step.
        given_frames_refresh: compute frames that stay at level 0 only every so many steps, and use their keys and
            values in between (:mod:`pusa_core.model.kv_cache`). 1: at every step; 0: only at the first.

    Returns:
        Latents at the noise levels of the last row.

    Source: Pusa, arXiv 2507.16116, eq. 6 and algorithm 1; reference ``FlowMatchSchedulerPusaV2V.step``.
    """
    if table.ndim != 2 or table.shape[1] != latents.shape[2]:
        raise ValueError(
            f"sigma table has shape {tuple(table.shape)}; latents of {latents.shape[2]} frames need "
            f"[steps + 1, {latents.shape[2]}]"
        )
    given = GivenFrames.of_table(table, given_frames_refresh)
    table = table.to(latents.device)
    timesteps, deltas = TIMESTEPS * table[:-1], table.diff(dim=0)
    if truncate_timesteps:
        timesteps = timesteps.trunc()
        deltas = torch.where(timesteps == 0, 0.0, deltas)
    for step in range(len(deltas)):
        if given is None:
            velocity = velocity_fn(latents, timesteps[step])
        else:
            given.step = step
            velocity = velocity_fn(latents, timesteps[step], given)
        delta = per_frame(deltas[step], latents)
        if callback is not None:
            denoised = latents - per_frame(table[step], latents) * velocity
        latents = torch.where(delta == 0, latents, latents + velocity * delta)
        if callback is not None:
            callback(step, denoised, latents)
    return latents


def guided_velocity(model: Callable[..., Tensor], context: Tensor, negative: Tensor | None, cfg: float) -> VelocityFn:
    """Classifier-free guidance: ``v_neg + cfg (v_pos - v_neg)``; one pass, without ``negative``, when ``cfg`` is 1.

    Args:
        model: ``model(latents, timestep [B, F], context)``, such as a ``WanModel``.
        context, negative: text embeddings ``[1, L, text_dim]`` of the prompt and of what to avoid.
        cfg: guidance scale.
    """
    if cfg != 1 and negative is None:
        raise ValueError(f"cfg is {cfg} but there is no negative prompt embedding; give one, or set cfg to 1")

    def velocity(latents: Tensor, timesteps: Tensor, given: GivenFrames | None = None) -> Tensor:
        def predict(prompt: Tensor, key: str) -> Tensor:
            kept = {} if given is None else {"kept": given.of_pass(key)}
            return model(latents, timesteps.expand(len(latents), -1), prompt.expand(len(latents), -1, -1), **kept)

        positive = predict(context, "positive")
        if cfg == 1 or negative is None:
            return positive
        other = predict(negative, "negative")
        return other + cfg * (positive - other)

    return velocity
