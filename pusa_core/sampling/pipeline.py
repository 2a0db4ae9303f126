"""Keyframes and prompt embeddings -> latents of a video, without ComfyUI."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from ..media.vae import LATENT_CHANNELS, STRIDE, Vae
from ..media.video import read_frames
from ..model.modulation import limit_levels
from .denoise import denoise
from .keyframes import Given, check_level, clip_start, latent_length, lead_in
from .sampler import StepCallback, start_latents
from .schedule import flow_sigmas, named_noise_levels, sigma_table
from .settings import Settings

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
    def read(cls, path: str | PathLike, settings: Settings, position: int = 0, noise_level: float = 0.0) -> "Keyframe":
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
    noise = torch.randn(given.latents.shape, generator=torch.Generator().manual_seed(settings.seed))
    table = sigma_table(flow_sigmas(settings.steps, settings.shift), limit_levels(given.noise_levels))
    latents = start_latents(noise, given.latents, table[0])
    return denoise(
        model,
        latents,
        table,
        context,
        negative,
        settings,
        low_noise_model=low_noise_model,
        callback=callback,
        device=device,
    )
