"""The inputs of Pusa Extend Video -> a film that is planned."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...pusa_core import Settings, pixel_length
from ...pusa_core.film.film import Beginning, Film
from ...pusa_core.media.vae import STRIDE
from ...pusa_core.media.video import check_encoding
from ...pusa_core.sampling.extend import parse_takes
from ...pusa_core.sampling.plan import LONGEST, Timeline, parse_prompts, plan_hops, split_prompts
from ...pusa_core.sampling.scenes import Scenes
from ...pusa_core.sampling.windows import Recipe, check_experts
from .beginnings import Frames, read_video
from .film import scenes_folder
from .latents import Latent, check_samples
from .model import describe_files
from .origin import origin_of

ORIGINS = ("model", "model_low", "clip", "vae")


@dataclass(frozen=True)
class Start:
    """What a film begins with: pixel frames, or normalised ``latents``, or neither. ``sound``: a file that has it."""

    fps: int
    size: tuple[int, int]
    clip: Beginning | None = None
    latents: Tensor | None = None
    sound: Path | None = None

    @classmethod
    def of(
        cls,
        video: Any,
        image: Tensor | None,
        latent: Latent | None,
        fps: int,
        size: tuple[int, int],
        model: ModelPatcher,
    ) -> "Start":
        """From the inputs of a node, of which one at most is connected; else ``ValueError``."""
        given = {"video": video, "image": image, "latent": latent}
        names = [name for name, each in given.items() if each is not None]
        if len(names) > 1:
            raise ValueError(f"{' and '.join(names)} are connected; a video begins with one of them")
        check_encoding(*size, fps)
        if latent is not None:
            samples = check_samples(latent, "latent")
            own = samples.shape[4] * STRIDE, samples.shape[3] * STRIDE
            normalised = model.get_model_object("latent_format").process_in(samples[:1].float().cpu())
            return cls(fps, own, latents=normalised)
        if video is not None:
            clip, sound = read_video(video, fps)
            return cls(fps, size, clip, sound=sound)
        return cls(fps, size, None if image is None else Frames(image, fps, fps, "image"))

    @property
    def frames(self) -> int:
        if self.latents is not None:
            return pixel_length(self.latents.shape[2])
        return 0 if self.clip is None else self.clip.frames


def plan_film(
    settings: Settings,
    recipe: Recipe,
    start: Start,
    *,
    seconds: float,
    prompt: str,
    retakes: str,
    until: int,
    folder: str,
    experts: int,
    identity: Mapping[str, Any],
) -> Film:
    """Raises ``ValueError`` for whatever can be refused before the work."""
    check_experts(recipe, experts)
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"seconds is {seconds}; give the length of the whole video, above 0")
    total = max(1, round(seconds * start.fps))
    if start.frames >= total:
        raise ValueError(
            f"what the video begins with has {start.frames / start.fps:g} s, and seconds, {seconds:g}, is the length "
            f"of the whole video; give more"
        )
    timeline = Timeline(start.frames, total, start.fps)
    record = {"seconds": seconds, "fps": start.fps, "prompt": prompt, "seed": settings.seed}
    scenes = Scenes(scenes_folder(folder))
    film = Film(settings, recipe, timeline, scenes, identity, record, start.clip, start.latents)
    hops = plan_hops(timeline, parse_prompts(split_prompts(prompt)), recipe, film.window, film.known)
    takes = parse_takes(retakes)
    for name, numbers in (("retakes", sorted(takes)), ("until", [until] if until else [])):
        if bad := [number for number in numbers if not 1 <= number <= len(hops)]:
            raise ValueError(f"{name} names scene {bad[0]}, but the video has the scenes 1 to {len(hops)}")
    return replace(film, hops=hops[: until or None], takes=takes)


def signature(hidden: Any, models: tuple[ModelPatcher | None, ...]) -> dict[str, Any]:
    """What networks and text encoder are, for the keys of scenes; ``hidden``: of the node, None outside a server."""
    files = [describe_files(model) for model in models if model is not None]
    graph = getattr(hidden, "dynprompt", None)
    if graph is None:
        return {"models": files}
    return {"models": files, "origin": origin_of(graph, hidden.unique_id, ORIGINS)}
