"""Patches any native Wan text-to-video MODEL to read the noise levels of a LATENT, for ComfyUI's own samplers.

Two stateless wrappers. The one around the whole sampling consumes the ``noise_mask``, so that ComfyUI does not inpaint
with it, and replaces the sampler with :class:`PerFrameSampler`. The one around the network expands the step's timestep
to one per frame.

ComfyUI's sampler keeps one sigma per step. With the velocity of frame ``f`` multiplied by its noise level ``m_f``,
``x - sigma m_f v = x - sigma_f v`` is the denoised estimate of that frame, and ``(x - estimate) / sigma = m_f v`` is
its derivative along its own noise levels. A sampler whose step depends only on ratios of sigmas therefore treats every
frame as if it were sampled alone; those are the samplers in :data:`EXACT`.
"""

from collections.abc import Callable
from typing import Any

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...pusa_core.sampling.sampler import per_frame
from .latents import check_given, check_samples, noise_levels_of
from .network import refuse_extra_tokens
from .sampling import check_frames, window_of

KEY = "pusa_noise_levels"

EXACT = {
    "sample_euler": "euler",
    "sample_heun": "heun",
    "sample_heunpp2": "heunpp2",
    "sample_dpm_2": "dpm_2",
    "sample_lms": "lms",
    "sample_dpmpp_2m": "dpmpp_2m",
    "sample_ipndm": "ipndm",
    "sample_ipndm_v": "ipndm_v",
    "sample_res_multistep": "res_multistep",
    "sample_gradient_estimation": "gradient_estimation",
}
"""ComfyUI's sampler functions that are exact with per-frame noise levels; ``tests/comfy`` measures each."""

RENOISING = ("ancestral", "sde", "lcm", "ddpm", "seeds", "sa_solver")  # parts of the names of samplers that add noise


def check_sampler(sampler: Any) -> None:
    """Raise ``ValueError`` unless the SAMPLER is exact with per-frame noise levels."""
    function = getattr(sampler, "sampler_function", None)
    name = getattr(function, "__name__", type(sampler).__name__)
    noise = [key for key in ("s_churn", "eta") if getattr(sampler, "extra_options", {}).get(key)]
    if name in EXACT and not noise:
        return
    shown = name.removeprefix("sample_").removesuffix("_function")
    if noise or any(part in shown for part in RENOISING):
        adds = f" with {noise[0]} above 0" if noise else ""
        reason = f"{shown}{adds} adds fresh noise to all frames at every step, which destroys the given ones"
    else:
        reason = f"{shown} is not known to follow the noise level of every single frame"
    raise ValueError(f"sampler {reason}; choose one of {', '.join(EXACT.values())}")


class PerFrameSampler(comfy.samplers.Sampler):
    """Runs ``sampler`` at the noise levels ``sigma m_f`` of ``levels [F]``.

    Replaces the sampler itself, so that given frames are mixed in after any node that modifies the noise (FreeNoise,
    for example).
    """

    def __init__(self, sampler: comfy.samplers.Sampler, levels: Tensor) -> None:
        self.sampler = sampler
        self.levels = levels

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
        if noise.any():  # without noise, an earlier stage left the latents at their noise levels
            level = per_frame(self.levels, noise)
            noise = torch.where(level < 1, level * noise + (1 - level) * latent_image, noise)
        options = extra_args["model_options"]
        transformer_options = {**options.get("transformer_options", {}), KEY: self.levels}
        arguments = {**extra_args, "model_options": {**options, "transformer_options": transformer_options}}
        return self.sampler.sample(model_wrap, sigmas, arguments, callback, noise, latent_image, None, disable_pbar)


def sample_given_frames(
    executor: Callable[..., Tensor],
    noise: Tensor,
    latent_image: Tensor,
    sampler: comfy.samplers.Sampler,
    sigmas: Tensor,
    denoise_mask: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Wrapper of the whole sampling: reads the noise levels, and returns frames at level 0 unchanged."""
    if denoise_mask is None:
        return executor(noise, latent_image, sampler, sigmas, None, *args, **kwargs)
    # newer versions interpolate the mask to the size of the latents, which leaves rounding errors of 1e-7
    latent = {"samples": latent_image, "noise_mask": (denoise_mask * 1e6).round() / 1e6}
    check_samples(latent, "latent_image")
    levels = noise_levels_of(latent, "latent_image")
    check_given(latent_image, levels, "latent_image")
    if (levels < 1).any():
        check_sampler(sampler)
    samples = executor(noise, latent_image, PerFrameSampler(sampler, levels), sigmas, None, *args, **kwargs)
    if sigmas[-1] > 0 or not noise.any():  # one of several stages, between which given frames are noisy
        return samples
    return torch.where(per_frame(levels, samples) == 0, latent_image.to(samples), samples)


def scale_by_noise_level(
    executor: Callable[..., Tensor], x: Tensor, timestep: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """Wrapper of the network: expands timestep ``t [B]`` to ``m_f t [B, F]`` and scales the velocity by ``m_f``."""
    options = args[3] if len(args) > 3 else kwargs["transformer_options"]
    if KEY not in options:
        return executor(x, timestep, *args, **kwargs)
    refuse_extra_tokens({**kwargs, "time_dim_concat": args[2] if len(args) > 2 else None})
    levels = window_of(options[KEY], options).to(timestep)
    check_frames(levels, x)
    velocity = executor(x, timestep[:, None] * levels, *args, **kwargs).float()
    return velocity * per_frame(levels, velocity)


def read_noise_levels(model: ModelPatcher) -> ModelPatcher:
    """A clone of ``model`` that reads the noise levels of the LATENT it samples."""
    patched = model.clone()
    for kind, wrapper in (
        (WrappersMP.OUTER_SAMPLE, sample_given_frames),
        (WrappersMP.DIFFUSION_MODEL, scale_by_noise_level),
    ):
        patched.remove_wrappers_with_key(kind, KEY)
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    return patched
