"""The per-frame Euler sampler: every latent frame, or token, is integrated along its own column of a sigma table."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .schedule import PATCH, TIMESTEPS

VelocityFn = Callable[[Tensor, Tensor], Tensor]
"""``velocity_fn(latents [B, C, F, H, W], timesteps) -> velocity`` like ``latents``; timesteps ``[F]`` or
``[F, h, w]``, of tokens."""

StepCallback = Callable[[int, Tensor, Tensor], None]
"""``callback(step, denoised, latents)`` after each step; ``denoised`` is the current estimate of the clean latents."""


class NotFiniteError(ValueError):
    """The latents became NaN or infinite. ``step``: the first one, from 0, that left them so."""

    def __init__(self, step: int, steps: int, model: str = "the model") -> None:
        super().__init__(
            f"the video is NaN or infinite from step {step + 1} of {steps} on, computed by {model}; lower the strength "
            f"of its LoRA or cfg, or choose another LoRA, checkpoint or dtype"
        )
        self.step = step


def check_steps(extremes: Sequence[tuple[Tensor, Tensor]], model: str = "the model") -> None:
    """Raise :class:`NotFiniteError` unless all that steps arrived at is finite.

    ``extremes``: the least and the greatest value after each step (``Tensor.aminmax``), still on the device. The host
    waits for the device once, for the last of them.
    """

    def broken(bounds: tuple[Tensor, Tensor]) -> bool:
        return not all(bool(bound.isfinite()) for bound in bounds)

    if extremes and broken(extremes[-1]):  # what is not finite stays so in the steps after it
        raise NotFiniteError(next(step for step, each in enumerate(extremes) if broken(each)), len(extremes), model)


def per_frame(values: Tensor, like: Tensor) -> Tensor:
    """``[F]`` as ``[1, 1, F, 1, 1]``, or ``[F, h, w]``, of tokens, as ``[1, 1, F, H, W]``.

    On the device, in the dtype and of the size of ``like [B, C, F, H, W]``.
    """
    values = values.to(like)
    if values.ndim == 1:
        return values.view(1, 1, -1, 1, 1)
    height, width = like.shape[-2:]
    return values.repeat_interleave(PATCH, -2).repeat_interleave(PATCH, -1)[None, None, :, :height, :width]


def start_latents(noise: Tensor, given: Tensor, sigmas: Tensor) -> Tensor:
    """The latents that sampling starts from: ``(1 - sigma_f) given + sigma_f noise``.

    Args:
        noise, given: ``[B, C, F, H, W]``; ``given`` is read only where sigma is below 1.
        sigmas: ``[F]`` or ``[F, h, w]``, the first row of a sigma table. What has sigma 0 keeps the bits of ``given``.
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
) -> Tensor:
    """Integrate ``d latents_f = v_f d sigma_f`` down the rows of ``table``.

    Args:
        velocity_fn: the network, including guidance.
        latents: ``[B, C, F, H, W]`` at the sigmas of the first row (:func:`start_latents`).
        table: sigmas ``[steps + 1, F]``, or ``[steps + 1, F, h, w]`` with one for each token (2 x 2 latents). Rows need
            not be proportional to each other. Where sigma does not change in a step, latents keep their bits.
        truncate_timesteps: truncate timesteps to integers and freeze frames whose integer timestep is 0, as the public
            Pusa scripts do. For parity only.
        callback: called after each step.

    Returns:
        Latents at the last row's sigmas.

    Raises:
        NotFiniteError: the latents became NaN or infinite; the message names the step.

    Source: Pusa, arXiv 2507.16116, eq. 6 and algorithm 1; reference ``FlowMatchSchedulerPusaV2V.step``.
    """
    frames, *size = latents.shape[2:]
    grid = (frames, *(-(-side // PATCH) for side in size))
    if table.shape[1:] not in ((frames,), grid):
        raise ValueError(
            f"sigma table has shape {tuple(table.shape)}; latents of {frames} x {size[0]} x {size[1]} need "
            f"[steps + 1, {frames}], or [steps + 1, {', '.join(map(str, grid))}] for a level per token"
        )
    table = table.to(latents.device)
    timesteps, deltas = TIMESTEPS * table[:-1], table.diff(dim=0)
    if truncate_timesteps:
        timesteps = timesteps.trunc()
        deltas = torch.where(timesteps == 0, 0.0, deltas)
    extremes = []
    for step in range(len(deltas)):
        velocity = velocity_fn(latents, timesteps[step])
        delta = per_frame(deltas[step], latents)
        if callback is not None:
            denoised = latents - per_frame(table[step], latents) * velocity
        latents = torch.where(delta == 0, latents, latents + velocity * delta)
        extremes.append(latents.aminmax())
        if callback is not None:
            callback(step, denoised, latents)
    if not latents.is_meta:  # which holds no values
        check_steps(extremes)
    return latents


def conditioned_velocity(model: Callable[..., Tensor], context: Tensor) -> VelocityFn:
    """``model(latents, timestep [B, ...], context [B, L, text_dim])`` at one prompt ``[1, L, text_dim]``."""

    def velocity(latents: Tensor, timesteps: Tensor) -> Tensor:
        batch = len(latents)
        return model(latents, timesteps.expand(batch, *timesteps.shape), context.expand(batch, -1, -1))

    return velocity


def guide(positive: VelocityFn, negative: VelocityFn | None, cfg: float) -> VelocityFn:
    """Classifier-free guidance: ``v_neg + cfg (v_pos - v_neg)``, or ``v_pos`` alone when ``cfg`` is 1."""
    if not math.isfinite(cfg):
        raise ValueError(f"cfg is {cfg}; it must be a finite number (1 turns guidance off)")
    if cfg == 1:
        return positive
    if negative is None:
        raise ValueError(f"cfg is {cfg} but there is no negative prompt embedding; give one, or set cfg to 1")

    def velocity(latents: Tensor, timesteps: Tensor) -> Tensor:
        conditional, unconditional = positive(latents, timesteps), negative(latents, timesteps)
        return unconditional + cfg * (conditional - unconditional)

    return velocity


@dataclass(frozen=True)
class HistoryGuidance:
    """How closely new frames follow the first ``frames`` latent frames, the history, of what is sampled.

    ``weight``: 1 is no guidance, above ties new frames closer to the history, below loosens a stiff subject. ``noise
    [B, C, F, H, W]`` takes the history's place where it is dropped.
    """

    frames: int
    weight: float
    noise: Tensor


def guide_by_history(velocity: VelocityFn, dropped: VelocityFn, history: HistoryGuidance) -> VelocityFn:
    """``v_dropped + w (v - v_dropped)`` for new frames; ``v`` alone for the history.

    ``v_dropped`` is what ``dropped`` predicts with the history replaced by noise, at its level 1: a network that was
    trained with independent levels knows no other form of a missing frame, and needs no training for this.

    Source: history guidance of the Diffusion Forcing Transformer, arXiv 2502.06764.
    """
    frames = history.frames

    def guided(latents: Tensor, timesteps: Tensor) -> Tensor:
        without = torch.cat((history.noise[:, :, :frames].to(latents), latents[:, :, frames:]), dim=2)
        at_noise = torch.cat((torch.full_like(timesteps[:frames], TIMESTEPS), timesteps[frames:]))
        followed, free = velocity(latents, timesteps), dropped(without, at_noise)
        guided = free + history.weight * (followed - free)
        return torch.cat((followed[:, :, :frames], guided[:, :, frames:]), dim=2)

    return guided


def guided_velocity(model: Callable[..., Tensor], context: Tensor, negative: Tensor | None, cfg: float) -> VelocityFn:
    """The velocity of ``model`` under classifier-free guidance (:func:`guide`).

    Args:
        model: ``model(latents, timestep [B, ...], context)``, such as a ``WanModel``.
        context, negative: text embeddings ``[1, L, text_dim]`` of the prompt and the negative prompt; ``negative`` may
            be None when ``cfg`` is 1.
        cfg: guidance scale.
    """
    unconditional = None if negative is None else conditioned_velocity(model, negative)
    return guide(conditioned_velocity(model, context), unconditional, cfg)
