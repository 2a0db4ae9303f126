"""One way into ComfyUI's sampling: a MODEL that reads the noise levels of the LATENT it samples.

A stateless wrapper around the whole sampling takes the ``noise_mask``, so that ComfyUI does not inpaint with it, and
replaces the sampler with :class:`AtNoiseLevels`. The sampler of Pusa Sampler, which brings levels of its own, runs as
it is.

ComfyUI's samplers keep one sigma per step. With the velocity of frame ``f`` multiplied by its noise level ``m_f``,
``x - sigma m_f v = x - sigma_f v`` is the denoised estimate of that frame, and ``(x - estimate) / sigma = m_f v`` is
its derivative along its own noise levels. A sampler whose step depends only on ratios of sigmas therefore treats every
frame as if it were sampled alone; those are the samplers in :data:`EXACT`. The same holds for every token where levels
vary within a frame.
"""

from collections.abc import Callable
from typing import Any

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...pusa_core.model.modulation import limit_levels
from ...pusa_core.sampling.sampler import NotFiniteError, check_steps, per_frame
from ...pusa_core.sampling.schedule import TIMESTEPS
from .conditioning import check_conditionings
from .latents import NoiseMask, check_given, check_samples, ignored_pictures, noise_levels_of
from .live_levels import report_levels
from .model import check_model, describe_files
from .notices import warn
from .timesteps import PerFrameSampler, StepCallback, at_timesteps, keep_given

KEY = "pusa_noise_levels"
PURE_NOISE = 0.999  # sigma above which nothing of a picture is left

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


class GuiderAtLevels:
    """ComfyUI's guider, asked for the denoised estimate at ``levels [F]`` or ``[F, h, w]`` times a call's sigma."""

    def __init__(self, guider: Any, levels: Tensor) -> None:
        self._guider = guider
        self._levels = levels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guider, name)

    def __call__(self, x: Tensor, sigma: Tensor, model_options: dict[str, Any], seed: int | None = None) -> Tensor:
        timesteps = TIMESTEPS * sigma.flatten()[0] * self._levels.to(sigma)
        return self._guider(x, sigma, model_options=at_timesteps(model_options, timesteps), seed=seed)


class AtNoiseLevels(PerFrameSampler):
    """Runs ``sampler`` at the noise levels ``sigma m_f`` of ``levels [F]`` or ``[F, h, w]``.

    Replaces the sampler itself, so that given frames are mixed in after any node that modifies the noise (FreeNoise,
    for example).
    """

    def __init__(self, sampler: comfy.samplers.Sampler, levels: Tensor) -> None:
        self.sampler = sampler
        self.levels = levels

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
        # Without noise, an earlier stage left the latents at their noise levels. ComfyUI multiplies what it is given
        # by 1 - sigma, so the mixture below is that of the frame's own noise level in either case.
        level = per_frame(self.levels, noise)
        noise = torch.where(level < 1, level * noise + (1 - level) * latent_image, noise)
        guider = GuiderAtLevels(model_wrap, self.levels)
        samples = self.sampler.sample(guider, sigmas, extra_args, callback, noise, latent_image, None, disable_pbar)
        # ComfyUI has divided by 1 - sigma, for the next run to undo; each frame needs that of its own noise level
        left = sigmas[-1].to(samples)
        return torch.where(level < 1, samples * ((1 - left) / (1 - left * level)), samples)


def sample_frames_at_levels(
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

    Raises ``ValueError`` for inputs that per-frame noise levels cannot be combined with, and for a result that is NaN
    or infinite, with model, LoRA and step.
    """
    guider = executor.class_obj
    check_conditionings(guider.conds)
    if isinstance(sampler, PerFrameSampler):
        report = report_levels(callback, sampler, sigmas)
        samples = executor(noise, latent_image, sampler, sigmas, denoise_mask, report, *args, **kwargs)
        return keep_given(samples, latent_image, sampler.levels)
    levels = levels_to_sample(latent_image, denoise_mask)
    if (levels < 1).any():
        check_model(guider.model_patcher, "model")
        check_options(guider.model_options)
        check_sampler(sampler)
        sampler = AtNoiseLevels(sampler, levels)
    elif noise.any() and sigmas[0] > PURE_NOISE and (ignored := ignored_pictures(latent_image, levels, "latent_image")):
        warn(ignored)
    extremes: list[tuple[Tensor, Tensor]] = []
    report = report_levels(callback, sampler, sigmas)

    def listen(step: int, denoised: Tensor, latents: Tensor, steps: int) -> None:
        extremes.append(denoised.aminmax())
        report(step, denoised, latents, steps)

    samples = executor(noise, latent_image, sampler, sigmas, None, listen, *args, **kwargs)
    if not samples.isfinite().all():
        model = describe_files(guider.model_patcher)
        check_steps(extremes, model)
        raise NotFiniteError(len(sigmas) - 2, len(sigmas) - 1, model)
    return keep_given(samples, latent_image, levels)


def levels_to_sample(latent_image: Tensor, denoise_mask: Tensor | None) -> Tensor:
    """The noise levels ``[F]`` or ``[F, h, w]`` of the latents that are sampled, or ``[1]`` where they have no mask."""
    if denoise_mask is None:
        return torch.ones(1)
    check_samples({"samples": latent_image}, "latent_image")
    if not isinstance(denoise_mask, NoiseMask):
        # newer versions have interpolated it to the size of the latents, which leaves rounding errors of 1e-7
        denoise_mask = (denoise_mask * 1e6).round() / 1e6
    levels = noise_levels_of({"samples": latent_image, "noise_mask": denoise_mask}, "latent_image")
    check_given(latent_image, levels, "latent_image")
    return limit_levels(levels)


def check_options(model_options: dict[str, Any]) -> None:
    """Raise ``ValueError`` for a node that changes the mask from step to step."""
    if "denoise_mask_function" in model_options:
        raise ValueError(
            "model changes the noise_mask from step to step, as Differential Diffusion does, but every latent frame "
            "keeps its noise level here; remove that node"
        )


def read_noise_levels(model: ModelPatcher) -> ModelPatcher:
    """A clone of ``model`` that reads the noise levels of the LATENT it samples. Patching it again changes nothing."""
    patched = model.clone()
    patched.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, sample_frames_at_levels)
    return patched
