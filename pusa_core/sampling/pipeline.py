"""Keyframes and prompt embeddings -> latents of a video, without ComfyUI."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..media.vae import LATENT_CHANNELS, STRIDE, Vae
from ..media.video import read_frames
from ..model.kv_cache import FrozenFrames, KVCache, check_refresh
from ..model.modulation import limit_levels
from ..model.parallel import SequenceParallel
from .keyframes import Given, check_level, check_size, clip_start, latent_length, lead_in
from .sampler import NotFiniteError, StepCallback, VelocityFn, conditioned_velocity, euler_sample, guide, start_latents
from .schedule import flow_sigmas, named_noise_levels, sigma_table, switch_step

EXPERT_BOUNDARY = 0.875  # Wan2.2: the low-noise expert takes over below this sigma
_KEYFRAME = re.compile(r"(?P<position>-?\d+)=(?P<file>.+?)(?::(?P<noise>\d*\.?\d+))?")


@dataclass(frozen=True)
class Keyframe:
    """An image or clip that the video contains.

    ``frames``: ``[T, H, W, 3]`` in 0..1, of the video's size. ``position``: the latent frame at which it begins, or, if
    negative, at which it ends, counted from the end (-1 ends the video with it). ``noise_level``: 0 keeps it exactly;
    above, it is noised to that level and denoised with the rest.
    """

    frames: Tensor
    position: int = 0
    noise_level: float = 0.0

    def __post_init__(self) -> None:
        shape = tuple(self.frames.shape)
        if self.frames.ndim != 4 or shape[-1] != 3 or not self.frames.numel():
            raise ValueError(
                f"the keyframe at {self.position} has shape {list(shape)}; it must be [frames, height, width, 3] with "
                f"at least one frame"
            )
        check_level(self.noise_level, f"the keyframe at {self.position}")

    @classmethod
    def read(
        cls, path: str | PathLike, settings: "Settings", position: int = 0, noise_level: float = 0.0
    ) -> "Keyframe":
        """Read an image or video file, scaled to cover the video's size and centre-cropped.

        Raises ``FileNotFoundError``, or ``ValueError`` for a file that is neither.
        """
        return cls(read_frames(path, (settings.width, settings.height)), position, noise_level)


def parse_keyframe(text: str) -> tuple[int, Path, float]:
    """Position, file and noise level of ``"POSITION=FILE[:NOISE]"``. Raises ``ValueError`` for any other text."""
    match = _KEYFRAME.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not POSITION=FILE or POSITION=FILE:NOISE, such as 0=cat.png:0.2')
    noise = float(match["noise"] or 0)
    if noise > 1:
        raise ValueError(f'"{text}": noise {noise:g} is outside 0 (keep as given) to 1 (generate)')
    return int(match["position"]), Path(match["file"]), noise


@dataclass(frozen=True)
class Settings:
    """Size and sampling of a video. Raises ``ValueError`` for values that do not make one.

    ``width``, ``height``: pixels, divisible by 16. ``frames``: pixel frames, ``4 n + 1``. ``steps``, ``shift``: of the
    noise schedule (:func:`pusa_core.flow_sigmas`). ``cfg``: guidance scale; 1 turns guidance off. ``seed``: of the
    noise. ``given_frames_refresh``: steps for which keys and values of frames at noise level 0 are reused
    (:mod:`pusa_core.model.kv_cache`); 1: no reuse, 0: computed once.
    """

    width: int = 832
    height: int = 480
    frames: int = 81
    steps: int = 10
    cfg: float = 3.0
    shift: float = 5.0
    seed: int = 0
    given_frames_refresh: int = 1

    def __post_init__(self) -> None:
        check_size(self.width, self.height)
        latent_length(self.frames)
        flow_sigmas(self.steps, self.shift)
        if not math.isfinite(self.cfg):
            raise ValueError(f"cfg is {self.cfg}; it must be a finite number (3.0 is the default)")
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"seed is {self.seed}; it must be from 0 to {(1 << 64) - 1}")
        check_refresh(self.given_frames_refresh)


def encode_keyframes(vae: Vae, keyframes: Sequence[Keyframe], settings: Settings, noise_levels: str = "") -> Given:
    """Encode keyframes and place them among the frames to be generated.

    ``noise_levels`` overrides the keyframes' own, as text (:func:`pusa_core.parse_noise_levels`). The result has
    latents ``[1, 16, F, H / 8, W / 8]`` and noise levels ``[F]``.

    Raises:
        ValueError: a keyframe of another size, one that does not fit, two on the same latent frame, or a noise level
            below 1 for a frame that is not given.
    """
    latent_frames = latent_length(settings.frames)
    size = (1, LATENT_CHANNELS, latent_frames, settings.height // STRIDE, settings.width // STRIDE)
    given = Given(torch.zeros(size), torch.ones(latent_frames))
    for keyframe in keyframes:
        length, height, width, _ = keyframe.frames.shape
        if (width, height) != (settings.width, settings.height):
            raise ValueError(
                f"keyframe at {keyframe.position} is {width} x {height}, the video {settings.width} x "
                f"{settings.height}; resize the keyframe"
            )
        start = clip_start(length, keyframe.position, latent_frames)
        frames, drop = lead_in(keyframe.frames, start, from_end=keyframe.position < 0)
        encoded = vae.encode(frames)[:, :, drop:]
        if not encoded.isfinite().all():
            raise ValueError(
                f"the keyframe at {keyframe.position} becomes NaN or infinite in the VAE; look for such values in its "
                f"picture, or choose another VAE file"
            )
        given = given.place(encoded, start, keyframe.noise_level)
    return replace(given, noise_levels=changed_levels(given.noise_levels, noise_levels))


def changed_levels(levels: Tensor, text: str) -> Tensor:
    """Noise levels ``[F]`` (1: no frame given) with those that ``text`` names replaced."""
    changed = levels.clone()
    for frame, level in named_noise_levels(text, len(levels)).items():
        if level < 1 and levels[frame] == 1:
            raise ValueError(
                f"the noise level of latent frame {frame} is set to {level:g}, but no keyframe is there; give one, or "
                f"leave its level at 1"
            )
        changed[frame] = level
    return changed


def generate_latents(
    model: nn.Module,
    given: Given,
    context: Tensor,
    negative: Tensor | None,
    settings: Settings,
    *,
    low_noise_model: nn.Module | None = None,
    callback: StepCallback | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Sample normalised latents ``[1, 16, F, H / 8, W / 8]`` (fp32). The noise is drawn on the CPU, from the seed.

    Args:
        model: the DiT, a ``WanModel`` or a module that is called like it; Wan2.2's high-noise expert when
            ``low_noise_model`` is given too.
        given: keyframes (:func:`encode_keyframes`).
        context, negative: text embeddings ``[1, L, text_dim]``; ``negative`` may be None when ``cfg`` is 1.
        callback: as in :func:`pusa_core.euler_sample`; steps are counted over both models.
        device: of the computation; by default that of the model's weights.

    Raises ``ValueError`` for shapes that do not fit the model, given frames that are not finite, a missing
    ``negative``, or latents that become NaN or infinite (:class:`pusa_core.sampling.sampler.NotFiniteError`).
    """
    if not given.latents.isfinite().all():
        raise ValueError("the latents of the given frames are NaN or infinite; look for what made them")
    weight = next(model.parameters())
    device = weight.device if device is None else device
    noise = torch.randn(given.latents.shape, generator=torch.Generator().manual_seed(settings.seed))
    sigmas = flow_sigmas(settings.steps, settings.shift)
    table = sigma_table(sigmas, limit_levels(given.noise_levels))
    latents = start_latents(noise, given.latents, table[0]).to(device)
    # moved once: a copy at every step would make the host wait for the GPU at every step
    context = context.to(device, weight.dtype)
    negative = None if negative is None else negative.to(device, weight.dtype)
    low_from = settings.steps if low_noise_model is None else switch_step(sigmas, EXPERT_BOUNDARY)
    for expert, first, last in ((model, 0, low_from), (low_noise_model, low_from, settings.steps)):
        if expert is None or first == last:
            continue
        rows = table[first : last + 1]
        sharded = isinstance(expert, SequenceParallel)
        frozen = FrozenFrames.of_table(rows, settings.given_frames_refresh, whole_frames=sharded)
        positive = _velocity(expert, context, frozen)
        unconditional = None if negative is None else _velocity(expert, negative, frozen)
        report = None if callback is None else _offset(callback, first)
        with torch.no_grad():  # not inference_mode: what a model caches must still be usable in training
            try:
                latents = euler_sample(guide(positive, unconditional, settings.cfg), latents, rows, callback=report)
            except NotFiniteError as error:
                raise NotFiniteError(first + error.step, settings.steps, source_of(expert)) from None
    return latents


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
