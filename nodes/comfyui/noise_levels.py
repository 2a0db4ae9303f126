"""Patches any native Wan text-to-video MODEL to read the noise levels of a LATENT, for ComfyUI's own samplers.

Two stateless wrappers. The one around the whole sampling consumes the ``noise_mask``, so that ComfyUI does not inpaint
with it, and replaces the sampler with :class:`PerFrameSampler`. The one around the network expands the step's timestep
to one per frame.

ComfyUI's sampler keeps one sigma per step. With the velocity of frame ``f`` multiplied by its noise level ``m_f``,
``x - sigma m_f v = x - sigma_f v`` is the denoised estimate of that frame, and ``(x - estimate) / sigma = m_f v`` is
its derivative along its own noise levels. A sampler whose step depends only on ratios of sigmas therefore treats every
frame as if it were sampled alone; those are the samplers in :data:`EXACT`.
"""

import inspect
from collections.abc import Callable
from typing import Any

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...pusa_core.sampling.sampler import NotFiniteError, check_steps, per_frame
from .latents import check_given, check_samples, ignored_pictures, noise_levels_of
from .model import describe_files
from .network import refuse_extra_tokens
from .notices import warn
from .sampling import check_frames, window_of

KEY = "pusa_noise_levels"
PURE_NOISE = 0.999  # sigma above which nothing of a picture is left

StepCallback = Callable[[int, Tensor, Tensor, int], None]
"""ComfyUI's: step, clean estimate, latents, number of steps."""

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
        callback: StepCallback | None,
        noise: Tensor,
        latent_image: Tensor,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        # Without noise, an earlier stage left the latents at their noise levels. ComfyUI multiplies what it is given
        # by 1 - sigma, so the mixture below is that of the frame's own noise level in either case.
        level = per_frame(self.levels, noise)
        noise = torch.where(level < 1, level * noise + (1 - level) * latent_image, noise)
        options = extra_args["model_options"]
        transformer_options = {**options.get("transformer_options", {}), KEY: self.levels}
        arguments = {**extra_args, "model_options": {**options, "transformer_options": transformer_options}}
        samples = self.sampler.sample(model_wrap, sigmas, arguments, callback, noise, latent_image, None, disable_pbar)
        # ComfyUI has divided by 1 - sigma, for the next run to undo; each frame needs that of its own noise level
        left = sigmas[-1].to(samples)
        return torch.where(level < 1, samples * ((1 - left) / (1 - left * level)), samples)


def sample_given_frames(
    executor: Any,  # ComfyUI's WrapperExecutor: called, and asked for its guider
    noise: Tensor,
    latent_image: Tensor,
    sampler: comfy.samplers.Sampler,
    sigmas: Tensor,
    denoise_mask: Tensor | None = None,
    callback: StepCallback | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Wrapper of the whole sampling: reads the noise levels, and returns frames at level 0 unchanged.

    Raises ``ValueError`` for a result that is NaN or infinite, with model, LoRA and step.
    """
    extremes: list[tuple[Tensor, Tensor]] = []

    def listen(step: int, denoised: Tensor, latents: Tensor, steps: int) -> None:
        extremes.append(denoised.aminmax())
        if callback is not None:
            callback(step, denoised, latents, steps)

    levels = torch.ones(1)
    if denoise_mask is not None:
        levels = levels_to_sample(executor.class_obj, latent_image, denoise_mask)
        if (levels < 1).any():
            check_sampler(sampler)
        sampler = PerFrameSampler(sampler, levels)
    starts_from_noise = bool(noise.any()) and sigmas[0] > PURE_NOISE
    if starts_from_noise and (ignored := ignored_pictures(latent_image, levels, "latent_image")):
        warn(ignored)
    samples = executor(noise, latent_image, sampler, sigmas, None, listen, *args, **kwargs)
    if not samples.isfinite().all():
        model = describe_files(executor.class_obj.model_patcher)
        check_steps(extremes, model)
        raise NotFiniteError(len(sigmas) - 2, len(sigmas) - 1, model)
    if denoise_mask is None:
        return samples
    return torch.where(per_frame(levels, samples) == 0, latent_image.to(samples), samples)


def levels_to_sample(guider: Any, latent_image: Tensor, denoise_mask: Tensor) -> Tensor:
    """The noise levels ``[F]`` of the latents that ``guider`` samples."""
    check_samples({"samples": latent_image}, "latent_image")
    mask = mask_of_caller(guider)
    if mask is None:
        # newer versions have interpolated the mask to the size of the latents, which leaves rounding errors of 1e-7
        mask = (denoise_mask * 1e6).round() / 1e6
    levels = noise_levels_of({"samples": latent_image, "noise_mask": mask}, "latent_image")
    check_given(latent_image, levels, "latent_image")
    return levels


def mask_of_caller(guider: Any) -> Tensor | None:
    """The mask with which ``guider.sample`` was called, or None where it cannot be found.

    Newer versions of ComfyUI interpolate it to the length of the video before the first wrapper runs, so that the
    levels of another video, which nobody asked for, would look right. As it was it is only in the caller.
    """
    frame = inspect.currentframe()
    while frame is not None and not (frame.f_code.co_name == "sample" and frame.f_locals.get("self") is guider):
        frame = frame.f_back
    caller = None if frame is None else frame.f_back
    for name in ("denoise_mask", "noise_mask"):
        if caller is not None and isinstance(mask := caller.f_locals.get(name), Tensor):
            return mask
    return None


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
