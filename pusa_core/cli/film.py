"""A long video made by a command: its networks, its progress bar, its files."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from ..film.film import Film, film_pictures, given_latents
from ..film.index import Index
from ..media.text_encoder import load_text_encoder
from ..media.vae import load_vae
from ..media.video import write_pictures
from ..model.dit import WanModel
from ..sampling.denoise import denoise
from ..sampling.extend import Scene, make_scenes, network_calls
from ..sampling.long_video import Window
from ..sampling.sampler import StepCallback
from ..storage.atomic import write_whole
from ..weights.demo_files import DEMO
from ..weights.load import ModelFiles
from .generate import build_models
from .job import Job
from .output import VideoOutput

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FilmJob:
    """A film, and the files and options that it is made with. ``sound``: the clip whose sound it has."""

    film: Film
    job: Job
    files: Sequence[ModelFiles]
    sound: Path | None


def identity(job: Job, files: Sequence[ModelFiles]) -> dict[str, Any]:
    """What scenes depend on beside recipe, settings, seeds and prompts; of files, their names and sizes."""
    sizes = [Path(path).stat().st_size for path in job.model.paths]
    return {"models": [each.describe() for each in files], "sizes": sizes, "negative": job.negative}


def write_film(work: FilmJob, output: VideoOutput) -> None:
    """Write the video and its contact sheet, and every scene to its folder before that.

    Whatever ends it, what was made is kept, and is found again.
    """
    film, model = work.film, work.job.model
    vae = load_vae(model.vae or DEMO, device=model.device)
    given = given_latents(film, vae, Path(model.vae or DEMO).name)
    video = film.video(given.key)
    index = Index(film)
    index.write()
    with _progress(network_calls(video)) as bar:
        network = _Network(work, bar.step)
        made = bar.count(make_scenes(video, given.past(film.window), network.sample, film.scenes))
        pictures = film_pictures(film, vae, given.latents, index.noted(made))
        try:
            write_pictures(pictures, film.size, output.out, work.job.fps, sound=work.sound, replace=output.overwrite)
        except (Exception, KeyboardInterrupt):  # running out of memory or disk space is one of the likelier ends
            again = f"python -m pusa_core extend --scenes {film.scenes.folder} --out {output.out}"
            log.warning("%s: %s goes on from there", index.kept(), again)
            raise
    write_whole(output.sheet, index.sheet().save, replace=output.overwrite)
    log.info("wrote %s and %s; %s", output.out, output.sheet, index.kept())


class _Network:
    """The networks of a film, loaded when the first scene has to be made."""

    def __init__(self, work: FilmJob, report: StepCallback) -> None:
        self._work = work
        self._report = report

    def sample(self, window: Window, prompt: str) -> Tensor:
        contexts, negative = self._contexts  # before the networks: the text encoder is as large as one
        model, low = self._models
        return denoise(
            model,
            window.start,
            window.table,
            contexts[prompt],
            negative,
            self._work.film.settings,
            low_noise_model=low,
            history=window.history(self._work.film.recipe),
            callback=self._report,
        ).cpu()

    @cached_property
    def _contexts(self) -> tuple[dict[str, Tensor], Tensor | None]:
        """The embedding of every prompt, and that of the negative prompt."""
        film, model = self._work.film, self._work.job.model
        encode = load_text_encoder(model.text_encoder or DEMO, device=model.device, dtype=model.torch_dtype)
        negative = encode(self._work.job.negative) if film.settings.cfg != 1 else None
        return {prompt: encode(prompt) for prompt in film.prompts}, negative

    @cached_property
    def _models(self) -> tuple[WanModel, WanModel | None]:
        return build_models(list(self._work.files), self._work.job.model, self._work.job.model.device)


class _Bar:
    """A progress bar over the network calls of all scenes."""

    def __init__(self, bar: Any, calls: Sequence[int]) -> None:
        self._bar = bar
        self._calls = calls

    def step(self, *_: Any) -> None:
        self._bar.update()

    def count(self, made: Iterator[Scene]) -> Iterator[Scene]:
        """Scenes that were found count as made."""
        for scene in made:
            if scene.kept:
                self._bar.update(self._calls[scene.hop.number - 1])
            self._bar.set_description(f"scene {scene.hop.number} of {len(self._calls)}")
            yield scene


@contextmanager
def _progress(calls: Sequence[int]) -> Iterator[_Bar]:
    from tqdm import tqdm

    with tqdm(total=sum(calls), desc="sampling", unit="call") as bar:
        yield _Bar(bar, calls)
