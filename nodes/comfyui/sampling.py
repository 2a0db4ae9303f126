"""The per-frame Euler sampler inside ComfyUI's own sampling: guidance, hooks, previews and interrupts are ComfyUI's.

ComfyUI has one sigma per step. The sampler also passes the step's timesteps ``[F]`` in ``transformer_options``, where a
wrapper of the network reads them. The wrapper is stateless, so clones of a MODEL may run concurrently.
"""

from collections.abc import Callable
from typing import Any

import comfy.sample
import comfy.samplers
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from einops import rearrange
from torch import Tensor

from ...pusa_core import euler_sample, start_latents
from ...pusa_core.model.kv_cache import FrozenFrames
from ...pusa_core.sampling.sampler import NotFiniteError, per_frame
from ...pusa_core.sampling.schedule import TIMESTEPS
from .model import describe_files
from .network import CACHES, KVCaches, refuse_extra_tokens

KEY = "pusa_timesteps"


def per_frame_timesteps(
    executor: Callable[..., Tensor], x: Tensor, timestep: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """Wrapper of the network that replaces the timestep ``[B]`` with per-frame timesteps ``[B, F]``.

    The velocity is scaled by ``sigma_f / sigma``, so that ComfyUI's ``x - sigma v`` is the denoised estimate of every
    frame at any noise level, as guidance variants and other nodes expect.
    """
    options = args[3] if len(args) > 3 else kwargs["transformer_options"]
    refuse_extra_tokens({**kwargs, "time_dim_concat": args[2] if len(args) > 2 else None})
    timesteps = window_of(options[KEY], options).to(timestep)
    check_frames(timesteps, x)
    velocity = executor(x, timesteps.expand(x.shape[0], -1), *args, **kwargs)
    sigma = options["sigmas"].to(velocity).view(-1)[0]
    return velocity * (per_frame(timesteps, velocity) / (TIMESTEPS * sigma))


def window_of(values: Tensor, options: dict[str, Any]) -> Tensor:
    """The entries of ``values [F]`` for the frames in the current context window."""
    window = options.get("context_window")
    if window is None:
        return values
    frames = list(window.index_list)
    anchor = getattr(window, "causal_anchor_index", None)  # newer versions prepend an earlier frame
    return values[frames if anchor is None or anchor < 0 else [anchor, *frames]]


def check_frames(values: Tensor, latents: Tensor) -> None:
    """Raise ``ValueError`` unless ``values [F]`` has one entry per latent frame; ComfyUI's network does not check."""
    if len(values) != latents.shape[2]:
        raise ValueError(
            f"{len(values)} noise levels for {latents.shape[2]} latent frames; remove the nodes that cut frames"
        )


class PusaEuler(comfy.samplers.Sampler):
    """A SAMPLER that runs :func:`pusa_core.euler_sample` down ``table [steps + 1, F]``.

    ``continues``: the input latents are already at the noise levels of the table's first row; no noise is added.
    ``refresh``: as in :class:`pusa_core.model.kv_cache.FrozenFrames`; 1: no cache.
    """

    def __init__(self, table: Tensor, continues: bool = False, refresh: int = 1) -> None:
        self.table = table
        self.continues = continues
        self.refresh = refresh

    def sample(
        self,
        model_wrap: Callable[..., Tensor],
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callable[[int, Tensor, Tensor, int], None] | None,
        noise: Tensor,
        latent_image: Tensor,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        table = self.table.to(noise)
        steps = iter(sigmas[:-1])
        frame = preview_frame(self.table)

        frozen = FrozenFrames.of_table(self.table, self.refresh)
        caches = None if frozen is None else KVCaches(frozen)

        def velocity(latents: Tensor, timesteps: Tensor) -> Tensor:
            options = dict(extra_args["model_options"])
            own = {KEY: timesteps, CACHES: caches}
            options["transformer_options"] = {**options.get("transformer_options", {}), **own}
            sigma = next(steps).expand(latents.shape[0])
            denoised = model_wrap(latents, sigma, model_options=options, seed=extra_args.get("seed"))
            level = per_frame(timesteps / TIMESTEPS, latents)
            return torch.where(level > 0, (latents - denoised) / level, 0.0)

        def report(step: int, denoised: Tensor, latents: Tensor) -> None:
            if callback is not None:
                callback(step, denoised[:, :, frame : frame + 1], latents, len(table) - 1)

        start = latent_image if self.continues else start_latents(noise, latent_image, table[0])
        return euler_sample(velocity, start, table, callback=report)


def preview_frame(table: Tensor) -> int:
    """The median frame of those at the highest noise level; a preview of a given frame would look finished."""
    levels = table[0]
    return int((levels == levels.max()).nonzero().flatten().median())


def sample_frames(
    stages: list[tuple[ModelPatcher, Tensor, Tensor]],
    positive: list,
    negative: list,
    cfg: float,
    seed: int,
    given: Tensor,
    batch_index: list[int] | None = None,
    refresh: int = 1,
) -> Tensor:
    """Sample through consecutive stages of ``(MODEL, sigmas [steps + 1], table [steps + 1, F])``.

    ``given [B, C, F, H, W]`` and the result are raw VAE latents. Frames that stay at noise level 0 are returned
    bit-exactly. ``refresh`` as in :class:`PusaEuler`.

    Raises ``ValueError`` for a result that is NaN or infinite, with model, LoRA and step.
    """
    latents = given
    noise = comfy.sample.prepare_noise(given, seed, batch_index)
    total = sum(len(sigmas) - 1 for _, sigmas, _ in stages)
    show = latent_preview.prepare_callback(stages[0][0], total)
    done = 0
    for model, sigmas, table in stages:
        patched = model.clone()
        patched.remove_wrappers_with_key(WrappersMP.DIFFUSION_MODEL, KEY)
        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, per_frame_timesteps)

        def callback(step: int, denoised: Tensor, x: Tensor, steps: int, offset: int = done) -> None:
            show(offset + step, denoised, x, total)

        sampler = PusaEuler(table, continues=done > 0, refresh=refresh)
        arguments = (patched, noise, cfg, sampler, sigmas, positive, negative, latents)
        try:
            latents = comfy.sample.sample_custom(*arguments, callback=callback, seed=seed)
        except NotFiniteError as error:
            raise NotFiniteError(done + error.step, total, describe_files(model)) from None
        done += len(sigmas) - 1
    kept = torch.stack([table.amax(0) for _, _, table in stages]).amax(0) == 0
    return torch.where(rearrange(kept, "f -> 1 1 f 1 1").to(latents.device), given.to(latents), latents)
