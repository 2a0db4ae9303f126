"""A long video made by ComfyUI's networks: scenes as in :mod:`pusa_core.film`, sampled and shown as ComfyUI does."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from PIL import Image
from torch import Tensor

from ...pusa_core.film.film import Film, film_pictures, given_latents
from ...pusa_core.film.index import Index
from ...pusa_core.media.video import write_pictures
from ...pusa_core.sampling.denoise import EXPERT_BOUNDARY
from ...pusa_core.sampling.extend import Scene, make_scenes, network_calls
from ...pusa_core.sampling.long_video import Window
from ...pusa_core.storage.lock import hold_lock
from .film_vae import FilmVae
from .notices import show
from .sampling import sample_stages, split_stages


@dataclass(frozen=True)
class Networks:
    """What samples a film: MODELs, the low-noise one of Wan2.2 or None, and the CLIP that encodes its prompts."""

    model: ModelPatcher
    model_low: ModelPatcher | None
    clip: Any
    negative: str
    switch: float = EXPERT_BOUNDARY


@dataclass(frozen=True)
class Finished:
    """``video``: an MP4 in ComfyUI's temporary folder. ``latents [1, 16, F, h, w]``: raw. ``strip``: of the scenes."""

    video: Path
    latents: Tensor
    strip: Image.Image
    kept: str


def scenes_folder(name: str) -> Path:
    """The folder of that name in ComfyUI's output folder. Raises ``ValueError`` for one outside of it."""
    output = Path(folder_paths.get_output_directory()).resolve()
    folder = (output / name).resolve()
    if not name.strip() or output not in folder.parents:
        raise ValueError(f'scenes is "{name}"; give the name of a folder within the output folder, such as pusa/film')
    return folder


def make_film(film: Film, networks: Networks, vae: Any, sound: Path | None) -> Finished:
    """Make the scenes that are not there yet, and the video of all. Whatever ends it, what was made is kept."""
    folder = film.scenes.folder
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(hold_lock(folder, f"{folder} is being written by another run; wait for it, or rename"))
        film.scenes.clear_partial()
        coder = FilmVae(vae)
        given = given_latents(film, coder, str(film.identity.get("origin", "")))
        video, index = film.video(given.key), Index(film)
        index.write()
        latents = [given.latents]
        sampling = _Sampling(film, networks, network_calls(video))
        made = _collected(
            sampling.told(make_scenes(video, given.past(film.window), sampling.sample, film.scenes)), latents
        )
        pictures = film_pictures(film, coder, given.latents, index.noted(made))
        path = _temporary()
        write_pictures(pictures, film.size, path, film.timeline.fps, sound=sound)
        raw = networks.model.get_model_object("latent_format").process_out(torch.cat(latents, dim=2))
        show(index.kept())
        return Finished(path, raw, index.sheet(), index.kept())


def _collected(made: Iterator[Scene], latents: list[Tensor]) -> Iterator[Scene]:
    for scene in made:
        latents.append(scene.latents)
        yield scene


def _temporary() -> Path:
    """A new name of a video in ComfyUI's temporary folder, which is emptied when it starts."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="pusa_film_", suffix=".mp4", delete=False) as file:
        return Path(file.name)


class _Sampling:
    """Samples windows, with the progress of the whole film."""

    def __init__(self, film: Film, networks: Networks, calls: list[int]) -> None:
        self._film = film
        self._networks = networks
        self._calls = calls
        self._done = 0  # network calls
        self._preview: Callable[..., None] = latent_preview.prepare_callback(networks.model, sum(calls))

    def sample(self, window: Window, prompt: str) -> Tensor:
        """A window's latents at the last row of its table, fp32 on the CPU."""
        film, networks = self._film, self._networks
        latent_format = networks.model.get_model_object("latent_format")
        sigmas = window.table.amax(dim=1)  # of what has most noise, as ComfyUI's samplers know it
        stages = split_stages(networks.model, networks.model_low, sigmas, window.table, networks.switch)
        begun = self._done

        def step(number: int, denoised: Tensor, latents: Tensor) -> None:
            self._done = begun + number + 1
            self._preview(begun + number, denoised, latents, sum(self._calls))

        result = sample_stages(
            stages,
            self._prompts[prompt],
            self._negative,
            film.settings.cfg,
            window.seed,
            latent_format.process_out(window.given),
            window.noise,
            step,
            film.settings.given_frames_refresh,
            continues=window.continues,
            history=window.history(film.recipe),
        )
        return latent_format.process_in(result.float().cpu())

    def told(self, made: Iterator[Scene]) -> Iterator[Scene]:
        """``made``, with the number of the scene that comes next on the node."""
        count, bar = len(self._calls), comfy.utils.ProgressBar(sum(self._calls))
        show(f"scene 1 of {count}")
        for scene in made:
            comfy.model_management.throw_exception_if_processing_interrupted()
            self._done = sum(self._calls[: scene.hop.number])
            bar.update_absolute(self._done)
            if scene.hop.number < count:
                show(f"scene {scene.hop.number + 1} of {count}")
            yield scene

    @cached_property
    def _prompts(self) -> dict[str, list]:
        return {prompt: self._encoded(prompt) for prompt in self._film.prompts}

    @cached_property
    def _negative(self) -> list:
        return self._encoded(self._networks.negative)

    def _encoded(self, text: str) -> list:
        clip = self._networks.clip
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))
