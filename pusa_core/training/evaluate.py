"""Evaluation during training: validation loss at fixed noise levels, and sample videos."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from ..media.vae import Vae
from ..media.video import contact_sheet, write_video
from ..model.dit import WanModel
from ..sampling.keyframes import Given
from ..sampling.pipeline import Keyframe, Settings, encode_keyframes, generate_latents, parse_keyframe
from ..storage.atomic import write_whole
from .adapters import LoraLinear
from .cache import Cache, Entry
from .config import Config
from .data import generator
from .launch import Launch
from .objective import FULL_RANGE, NoiseRange, squared_errors
from .outputs import SampleTable

PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Where the noise levels of validation lie within ``train.noise_range``."""
SAMPLE_FPS = 16


def validation_sigmas(noise_range: NoiseRange) -> dict[str, float]:
    """The noise levels of validation by name, as in the metrics."""
    low, high = noise_range
    sigmas = [low + (high - low) * place for place in PLACES]
    return {f"{sigma:g}": sigma for sigma in sigmas}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train()


def validation_loss(
    model: nn.Module,
    cache: Cache,
    entries: Sequence[Entry],
    seed: int,
    launch: Launch,
    noise_range: NoiseRange = FULL_RANGE,
) -> dict[str, float]:
    """Mean loss over the clips at each of :func:`validation_sigmas`, all frames at the same one.

    The noise of a clip is fixed. Clips are distributed over the processes.
    """
    sigmas = validation_sigmas(noise_range)
    total = torch.zeros(len(sigmas), device=launch.device)
    with evaluating(model):
        # the same number of passes in every process: with sharded weights, each pass is collective
        for index in range(launch.rank, -(-len(entries) // launch.world) * launch.world, launch.world):
            entry = entries[index % len(entries)]
            latents, context = cache.read(entry.latents)[None], cache.read(entry.context)[None]
            noise = torch.randn(latents.shape, generator=generator(seed, "validation", entry.latents))
            latents, context, noise = (tensor.to(launch.device) for tensor in (latents, context, noise))
            for place, sigma in enumerate(sigmas.values()):
                levels = torch.full((1, latents.shape[2]), sigma, device=launch.device)
                error = squared_errors(model, latents, context, noise, levels).mean()
                total[place] += error * (index < len(entries))
    means = launch.mean(total) * launch.world / len(entries)
    return dict(zip(sigmas, means.tolist(), strict=True))


@dataclass
class SampleVideo:
    """A sample video with fixed keyframes, caption and seed.

    ``name``: what the names of its files end with. ``load_vae``: called once a video has to be decoded.
    """

    config: Config
    table: SampleTable
    name: str
    context: Tensor
    negative: Tensor
    load_vae: Callable[[], Vae]

    @cached_property
    def vae(self) -> Vae:
        return self.load_vae()

    def files(self, step: int) -> tuple[Path, Path]:
        """Its picture and video of a step."""
        base = (Path(self.config.output.folder) / "samples" / f"step_{step:08d}{self.name}").resolve()
        return base.with_suffix(".png"), base.with_suffix(".mp4")

    @cached_property
    def settings(self) -> Settings:
        (width, height), output = self.config.data.sizes[0], self.config.output
        return Settings(
            width,
            height,
            self.config.data.longest,
            output.sample_steps,
            output.sample_cfg,
            self.config.train.shift,
            self.table.get("seed", self.config.train.seed),
        )

    @cached_property
    def given(self) -> Given:
        """The encoded keyframes. Raises ``ValueError`` when they do not fit."""
        keyframes = []
        for text in self.table.get("keyframes", ()):
            position, path, noise_level = parse_keyframe(text)
            keyframes.append(Keyframe.read(path, self.settings, position, noise_level))
        if not keyframes:
            return encode_keyframes(_NoVae(), (), self.settings)
        return encode_keyframes(self.vae, keyframes, self.settings)

    def latents(
        self, models: Sequence[WanModel], adapters: Sequence[LoraLinear], device: torch.device | None = None
    ) -> Tensor:
        """Sample with the LoRA at ``output.lora_strength``; ``models``: one, or the high- and the low-noise expert."""
        model, *low = models
        try:
            for adapter in adapters:
                adapter.strength = self.config.output.lora_strength
            with contextlib.ExitStack() as stack:
                for each in models:
                    stack.enter_context(evaluating(each))
                return generate_latents(
                    model,
                    self.given,
                    self.context,
                    self.negative,
                    self.settings,
                    low_noise_model=low[0] if low else None,
                    device=device,
                )
        finally:
            for adapter in adapters:
                adapter.strength = 1.0

    def write(self, latents: Tensor, picture: Path, video: Path) -> None:
        """Write what is not there yet. Raises :class:`pusa_core.storage.atomic.SaveError`."""
        frames = self.vae.decode(latents)
        if not picture.exists():
            write_whole(picture, contact_sheet(frames).save)
        if not video.exists():
            write_video(frames, video, SAMPLE_FPS)


class _NoVae:
    def encode(self, frames: Tensor) -> Tensor:
        raise NotImplementedError

    decode = encode
