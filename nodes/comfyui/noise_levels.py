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

from typing import Any

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...pusa_core.model.modulation import limit_levels
from ...pusa_core.sampling.sampler import NotFiniteError, check_steps, per_frame
from ...pusa_core.sampling.schedule import TIMESTEPS
from .bases import TEXT_TO_VIDEO, Base, base_of, check_areas, check_base
from .conditioning import check_conditionings
from .exact_samplers import check_sampler
from .latents import NoiseMask, check_given, check_samples, ignored_pictures, noise_levels_of
from .live_levels import report_levels
from .model import describe_files
from .notices import warn
from .own_masks import (
    Masks,
    Streams,
    as_network_sees,
    at_masks,
    check_levels,
    cleanness,
    frame_levels,
    network_levels,
    noise_fraction,
    packed,
    unpack,
)
from .timesteps import BASE, PerFrameSampler, StepCallback, at_timesteps, keep_given

KEY = "pusa_noise_levels"
PURE_NOISE = 0.999  # sigma above which nothing of a picture is left


class GuiderAtLevels:
    """ComfyUI's guider, asked for the denoised estimate at ``levels [F]`` or ``[F, h, w]`` times a call's sigma."""

    def __init__(self, guider: Any, levels: Tensor, base: Base) -> None:
        self._guider = guider
        self._levels = levels
        self._base = base

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guider, name)

    def __call__(self, x: Tensor, sigma: Tensor, model_options: dict[str, Any], seed: int | None = None) -> Tensor:
        timesteps = TIMESTEPS * sigma.flatten()[0] * self._levels.to(sigma)
        options = at_timesteps(model_options, timesteps, **{BASE: self._base})
        return self._guider(x, sigma, model_options=options, seed=seed)


class GuiderAtMasks(GuiderAtLevels):
    """The same for networks that get their times from ComfyUI's mask, at the levels of ``masks``."""

    def __init__(self, guider: Any, masks: Masks) -> None:
        self._guider = guider
        self._masks = masks

    def __call__(self, x: Tensor, sigma: Tensor, model_options: dict[str, Any], seed: int | None = None) -> Tensor:
        return self._guider(x, sigma, model_options=at_masks(model_options, self._masks), seed=seed)


class AtNoiseLevels(PerFrameSampler):
    """Runs ``sampler`` at the noise levels ``sigma m_f`` of ``levels [F]`` or ``[F, h, w]``.

    Replaces the sampler itself, so that given frames are mixed in after any node that modifies the noise (FreeNoise,
    for example).
    """

    def __init__(self, sampler: comfy.samplers.Sampler, levels: Tensor, base: Base = TEXT_TO_VIDEO) -> None:
        self.sampler = sampler
        self.levels = levels
        self.base = base

    def level_of(self, latents: Tensor) -> Tensor:
        """The noise level of every element of ``latents``."""
        return per_frame(self.levels, latents)

    def guider(self, model_wrap: Any, noise: Tensor) -> Any:
        return GuiderAtLevels(model_wrap, self.levels, self.base)

    def given(self, latent_image: Tensor) -> Tensor:
        """What is given, in the units in which it is mixed with noise."""
        return latent_image

    def network_mask(self, latent_image: Tensor) -> Tensor | None:
        """The mask that the network itself reads, in ComfyUI's form; None if it reads none."""
        if not self.base.history_mask:
            return None
        return (self.level_of(latent_image) > 0).float().expand(len(latent_image), 1, *latent_image.shape[2:])

    def keep_given(self, samples: Tensor, given: Tensor) -> Tensor:
        """``samples``, with the bits of ``given`` where the level is 0."""
        return torch.where(self.level_of(samples) == 0, given.to(samples), samples)

    def sample(
        self,
        model_wrap: Any,  # ComfyUI's guider
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
        model = model_wrap.inner_model
        level, given = self.level_of(noise), self.given(latent_image)
        guider = self.guider(model_wrap, noise)
        noise = torch.where(level < 1, level * noise + (1 - level) * given, noise)
        samples = self.sampler.sample(guider, sigmas, extra_args, callback, noise, latent_image, None, disable_pbar)
        # ComfyUI has divided by 1 - sigma, for the next run to undo; each frame needs that of its own noise level
        left = sigmas[-1].to(samples)
        if not left:
            return samples
        none, one = torch.zeros_like(level), torch.ones_like(level)
        share = self.given(one) * (1 - level)
        scaling = model.model_sampling.noise_scaling
        return torch.where(level < 1, samples * (scaling(left, none, one) / scaling(left, share, one)), samples)


class AtOwnMask(AtNoiseLevels):
    """The same for a network that gets its times from ComfyUI's mask: ``streams`` of levels of every element."""

    def __init__(self, sampler: comfy.samplers.Sampler, streams: Streams, model: Any, shapes: list[Any]) -> None:
        super().__init__(sampler, frame_levels(streams))
        self.streams = streams
        self.model = model
        self.shapes = shapes

    def levels_at(self, step: int, sigmas: Tensor) -> Tensor:
        return super().levels_at(step, noise_fraction(self.model.model_sampling, sigmas))

    def level_of(self, latents: Tensor) -> Tensor:
        return packed(self.streams).clamp(min=0).to(latents)

    def guider(self, model_wrap: Any, noise: Tensor) -> Any:
        noise_streams = unpack(noise, self.shapes)
        return GuiderAtMasks(model_wrap, Masks(self.streams, noise_streams, cleanness(self.model)))

    def given(self, latent_image: Tensor) -> Tensor:
        return as_network_sees(self.model, latent_image, self.shapes)

    def network_mask(self, latent_image: Tensor) -> Tensor:
        return packed(self.streams)


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
    base = base_of(guider.model_patcher) or TEXT_TO_VIDEO
    if not base.own_mask:
        check_conditionings(guider.conds, base.reads)
    if isinstance(sampler, PerFrameSampler):
        report = report_levels(callback, sampler, sigmas)
        samples = executor(noise, latent_image, sampler, sigmas, denoise_mask, report, *args, **kwargs)
        return keep_given(samples, latent_image, sampler.levels)
    at_levels = sampler_at_levels(guider, base, latent_image, sampler, denoise_mask, kwargs.get("latent_shapes"))
    if at_levels is not None:
        check_base(guider.model_patcher, "model")
        check_options(guider.model_options)
        check_sampler(sampler)
    elif (
        noise.any()
        and sigmas[0] > PURE_NOISE
        and (ignored := ignored_pictures(latent_image, torch.ones(1), "latent_image"))
    ):
        warn(ignored)
    extremes: list[tuple[Tensor, Tensor]] = []
    report = report_levels(callback, at_levels or sampler, sigmas)

    def listen(step: int, denoised: Tensor, latents: Tensor, steps: int) -> None:
        extremes.append(denoised.aminmax())
        report(step, denoised, latents, steps)

    mask = None if at_levels is None else at_levels.network_mask(latent_image)
    samples = executor(noise, latent_image, at_levels or sampler, sigmas, mask, listen, *args, **kwargs)
    if not samples.isfinite().all():
        model = describe_files(guider.model_patcher)
        check_steps(extremes, model)
        raise NotFiniteError(len(sigmas) - 2, len(sigmas) - 1, model)
    return samples if at_levels is None else at_levels.keep_given(samples, latent_image)


def sampler_at_levels(
    guider: Any,
    base: Base,
    latent_image: Tensor,
    sampler: comfy.samplers.Sampler,
    denoise_mask: Tensor | None,
    shapes: list[Any] | None,
) -> "AtNoiseLevels | None":
    """``sampler`` at the noise levels of the mask, or None where all frames are generated."""
    if denoise_mask is None:
        return None
    model = guider.model_patcher.model
    if base.own_mask:
        shapes = shapes or [latent_image.shape]
        streams = network_levels(model, denoise_mask, shapes)
        check_levels(streams, latent_image, shapes)
        some = any((stream < 1).any() for stream in streams)
        return AtOwnMask(sampler, streams, model, shapes) if some else None
    levels = levels_to_sample(latent_image, denoise_mask, model.latent_format.latent_channels)
    check_areas(base, levels)
    return AtNoiseLevels(sampler, levels, base) if (levels < 1).any() else None


def levels_to_sample(latent_image: Tensor, denoise_mask: Tensor, channels: int) -> Tensor:
    """The noise levels ``[F]`` or ``[F, h, w]`` of the latents that are sampled."""
    check_samples({"samples": latent_image}, "latent_image", channels)
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
