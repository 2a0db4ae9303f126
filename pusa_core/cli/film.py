"""A long video being made: scenes are sampled or found, decoded and written as they come."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..media.clip import Clip
from ..media.text_encoder import load_text_encoder
from ..media.vae import LATENT_CHANNELS, STRIDE, WanVae, load_vae
from ..media.video import picture_grid, to_uint8, write_pictures
from ..model.dit import WanModel
from ..sampling.denoise import denoise
from ..sampling.extend import LongVideo, Scene, Take, make_scenes, network_calls
from ..sampling.keyframes import pixel_length
from ..sampling.long_video import Made, Past, Window, window_of
from ..sampling.plan import Hop, Timeline
from ..sampling.sampler import StepCallback
from ..sampling.scenes import Scenes, digest
from ..sampling.settings import Settings
from ..storage.atomic import write_whole
from ..weights.demo_files import DEMO
from ..weights.load import ModelFiles
from .generate import build_models
from .job import Job
from .output import VideoOutput

log = logging.getLogger(__name__)

SHEET_PICTURES = 40  # of the contact sheet


@dataclass(frozen=True)
class Film:
    """A long video that is planned."""

    job: Job
    settings: Settings
    files: Sequence[ModelFiles]
    timeline: Timeline
    clip: Clip | None
    scenes: Scenes
    hops: Sequence[Hop] = ()
    takes: dict[int, Take] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        return self.settings.width, self.settings.height

    @property
    def window(self) -> int:
        return window_of(self.settings)

    @property
    def known(self) -> int:
        """Latents that the windows go on from: of the end of the clip, at most a window."""
        return min(self.window, (self.timeline.given + 3) // 4)

    def identity(self, given_key: str) -> dict[str, Any]:
        """What scenes depend on beside recipe, settings, seeds and prompts; of files, their names and sizes."""
        names = [each.describe() for each in self.files]
        sizes = [Path(path).stat().st_size for path in self.job.model.paths]
        return {"given": given_key, "models": names, "sizes": sizes, "negative": self.job.negative}


def write_film(film: Film, output: VideoOutput) -> None:
    """Write the video and its contact sheet, and every scene to its folder before that.

    Whatever ends it, what was made is kept, and is found again.
    """
    vae = load_vae(film.job.model.vae or DEMO, device=film.job.model.device)
    given, given_key = _given_latents(film, vae)
    video = LongVideo(film.settings, film.job.recipe, film.hops, film.takes, film.identity(given_key))
    index = _Index(film)
    index.write()
    sound = None if film.clip is None else film.clip.path
    with _progress(network_calls(video)) as bar:
        network = _Network(film, bar.step)
        made = bar.count(make_scenes(video, Past.start(given, film.window), network.sample, film.scenes))
        pictures = islice(_pictures(film, vae, given, index.noted(made)), film.timeline.total)
        try:
            write_pictures(pictures, film.size, output.out, film.job.fps, sound=sound, replace=output.overwrite)
        except (Exception, KeyboardInterrupt):  # running out of memory or disk space is one of the likelier ends
            again = f"python -m pusa_core extend --scenes {film.scenes.folder} --out {output.out}"
            log.warning("%s: %s goes on from there", index.kept(), again)
            raise
    write_whole(output.sheet, index.sheet().save, replace=output.overwrite)
    log.info("wrote %s and %s; %s", output.out, output.sheet, index.kept())


def _given_latents(film: Film, vae: WanVae) -> tuple[Tensor, str]:
    """The latents ``[1, 16, F, h, w]`` of the end of the clip, or none, and their key.

    They are kept like a scene, so that they have the same bits on every machine that goes on from them.
    """
    height, width = (side // STRIDE for side in (film.settings.height, film.settings.width))
    if film.clip is None:
        return torch.zeros(1, LATENT_CHANNELS, 0, height, width), ""
    frames = film.clip.last(pixel_length(film.known), film.size)
    pixels = hashlib.sha256(frames.tobytes()).hexdigest()
    key = digest({"pixels": pixels, "size": film.size, "vae": Path(film.job.model.vae or DEMO).name})
    found = film.scenes.load(0, key)
    if found is None:
        found = Made(vae.encode(torch.from_numpy(frames).float() / 255).cpu())
        if not found.latents.isfinite().all():
            raise ValueError(f"{film.clip.path} becomes NaN or infinite in the VAE; choose another VAE file")
        film.scenes.save(0, key, found, {"number": 0, "clip": film.job.clip})
    return found.latents, key


def _pictures(film: Film, vae: WanVae, given: Tensor, made: Iterator[Scene]) -> Iterator[np.ndarray]:
    """The frames ``[H, W, 3]`` uint8: those of the clip as they are, then the scenes', decoded in order."""
    decode = vae.decoder()
    if film.clip is not None:
        yield from film.clip.pictures(film.size)
        for latent in given.split(1, dim=2):
            decode(latent)  # for what the decoder keeps of them; the frames are the clip's own
    for scene in made:
        middle = scene.hop.count // 2
        for number, latent in enumerate(scene.latents.split(1, dim=2)):
            frames = to_uint8(decode(latent)[0])
            if number == middle:
                film.scenes.save_picture(scene.hop.number, scene.key, Image.fromarray(frames[0]))
            yield from frames


class _Network:
    """The networks of a film, loaded when the first scene has to be made."""

    def __init__(self, film: Film, report: StepCallback) -> None:
        self._film = film
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
            self._film.settings,
            low_noise_model=low,
            history=window.history(self._film.job.recipe),
            callback=self._report,
        ).cpu()

    @cached_property
    def _contexts(self) -> tuple[dict[str, Tensor], Tensor | None]:
        """The embedding of every prompt, and that of the negative prompt."""
        film = self._film
        model = film.job.model
        encode = load_text_encoder(model.text_encoder or DEMO, device=model.device, dtype=model.torch_dtype)
        prompts = {hop.prompt for hop in film.hops} | {take.prompt for take in film.takes.values() if take.prompt}
        negative = encode(film.job.negative) if film.settings.cfg != 1 else None
        return {prompt: encode(prompt) for prompt in sorted(prompts)}, negative

    @cached_property
    def _models(self) -> tuple[WanModel, WanModel | None]:
        return build_models(list(self._film.files), self._film.job.model, self._film.job.model.device)


class _Index:
    """The list of a film's scenes in their folder, kept up to date."""

    def __init__(self, film: Film) -> None:
        self._film = film
        takes = {number: asdict(take) for number, take in sorted(film.takes.items())}
        self._head = {"job": film.job.record(), "takes": takes}
        self._done: list[dict[str, Any]] = []

    def noted(self, made: Iterator[Scene]) -> Iterator[Scene]:
        for scene in made:
            self._done.append(self._entry(scene))
            self.write()
            yield scene

    def write(self) -> None:
        self._film.scenes.write_index({**self._head, "scenes": self._done})

    def _entry(self, scene: Scene) -> dict[str, Any]:
        scenes, timeline, hop = self._film.scenes, self._film.timeline, scene.hop
        first, end = (timeline.first_frame(latent) for latent in (hop.start, hop.start + hop.count))
        return {
            **scene.about(),
            "from": round(first / timeline.fps, 3),
            "to": round(min(end, timeline.total) / timeline.fps, 3),
            "latents": scenes.file(hop.number, scene.key).name,
            "picture": scenes.picture(hop.number, scene.key).name,
        }

    def kept(self) -> str:
        count = len(self._done)
        names = "no scene" if not count else "scene 1" if count == 1 else f"scenes 1 to {count}"
        return f"{names} of {len(self._film.hops)} kept in {self._film.scenes.folder}"

    def sheet(self) -> Image.Image:
        """The pictures of the scenes with their numbers, of at most :data:`SHEET_PICTURES`."""
        step = -(-len(self._done) // SHEET_PICTURES)
        pictures, labels = [], []
        for entry in self._done[::step]:
            with Image.open(self._film.scenes.folder / entry["picture"]) as picture:
                pictures.append(picture.convert("RGB"))
            labels.append(f"{entry['number']}: {entry['from']:g} s, seed {entry['seed']}")
        return picture_grid(pictures, labels)


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
