"""One timestep per latent frame or token at the network, inside ComfyUI's own sampling, which has one sigma per step.

A sampler calls ComfyUI's guider with the options of :func:`at_timesteps`: the timesteps ``[F]`` or ``[F, h, w]`` of
that call, and the wrapper of the network that reads them. Both live in the options of a single call, so the MODEL
itself stays as it is and clones of it may run concurrently.
"""

from collections.abc import Callable
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ...pusa_core.sampling.sampler import per_frame
from ...pusa_core.sampling.schedule import PATCH, TIMESTEPS
from .bases import TEXT_TO_VIDEO, Base, token_times, tokens_of
from .call_options import with_wrapper
from .network import refuse_extra_tokens

KEY = "pusa_timesteps"
BASE = "pusa_base"
"""In ``transformer_options``: the kind of the MODEL, if it is not text to video."""

StepCallback = Callable[[int, Tensor, Tensor, int], None]
"""ComfyUI's: step, clean estimate, latents, number of steps."""


class PerFrameSampler(comfy.samplers.Sampler):
    """A SAMPLER with a noise level for every latent frame ``[F]`` or token ``[F, h, w]``: 0 is returned unchanged."""

    levels: Tensor

    def levels_at(self, step: int, sigmas: Tensor) -> Tensor:
        """The noise levels when ``step`` steps down ``sigmas`` are done."""
        return sigmas[step] * self.levels.to(sigmas)


def at_timesteps(model_options: dict[str, Any], timesteps: Tensor, **transformer_options: Any) -> dict[str, Any]:
    """A copy of ``model_options`` with which the network computes at ``timesteps [F]`` or ``[F, h, w]``."""
    inner = {KEY: timesteps, **transformer_options}
    return with_wrapper(model_options, KEY, per_frame_timesteps, areas=timesteps.ndim > 1, **inner)


def per_frame_timesteps(
    executor: Callable[..., Tensor], x: Tensor, timestep: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """Wrapper of the network that replaces the timestep ``[B]`` with one per frame, ``[B, F]``, or token, ``[B, N]``.

    Networks with further tokens beside those of the video get one for each of equally large groups of tokens.

    The velocity is scaled by ``sigma_f / sigma``, so that ComfyUI's ``x - sigma v`` is the denoised estimate of every
    frame at any noise level, as guidance variants and other nodes expect.
    """
    options = args[3] if len(args) > 3 else kwargs["transformer_options"]
    base: Base = options.get(BASE, TEXT_TO_VIDEO)
    known = kwargs if base is TEXT_TO_VIDEO else {key: kwargs[key] for key in kwargs.keys() - {"reference_latent"}}
    refuse_extra_tokens({**known, "time_dim_concat": args[2] if len(args) > 2 else None})
    timesteps = window_of(options[KEY], options).to(timestep)
    check_frames(timesteps, x)
    before, behind = base.extra_tokens(getattr(executor, "class_obj", None), kwargs)
    own = options[KEY].max().to(timestep)  # of the step: that of the frames with most noise, in any window
    times = token_times(timesteps, own, tokens_of(x), before, behind)
    velocity = executor(x, times.expand(x.shape[0], -1), *args, **kwargs).float()
    sigma = options["sigmas"].to(velocity).view(-1)[0]
    return velocity * (per_frame(timesteps, velocity) / (TIMESTEPS * sigma))


def window_of(values: Tensor, options: dict[str, Any]) -> Tensor:
    """The entries of ``values [F, ...]`` for the frames in the current context window."""
    window = options.get("context_window")
    if window is None:
        return values
    frames = list(window.index_list)
    anchor = getattr(window, "causal_anchor_index", None)  # newer versions prepend an earlier frame
    return values[frames if anchor is None or anchor < 0 else [anchor, *frames]]


def check_frames(values: Tensor, latents: Tensor) -> None:
    """Raise ``ValueError`` unless ``values`` has one entry per frame, or token; ComfyUI's network does not check."""
    frames, height, width = latents.shape[2:]
    if len(values) != frames:
        raise ValueError(f"{len(values)} noise levels for {frames} latent frames; remove the nodes that cut frames")
    grid = (height // PATCH, width // PATCH)
    if values.ndim == 3 and values.shape[1:] != grid:
        raise ValueError(
            f"noise levels of {values.shape[1]} x {values.shape[2]} tokens for frames of {grid[0]} x {grid[1]}; remove "
            f"the nodes that cut or resize frames while they are sampled"
        )


def keep_given(samples: Tensor, given: Tensor, levels: Tensor) -> Tensor:
    """``samples [B, C, F, H, W]``, with the bits of ``given`` where ``levels [F]`` or ``[F, h, w]`` are 0."""
    return torch.where(per_frame(levels, samples) == 0, given.to(samples), samples)
