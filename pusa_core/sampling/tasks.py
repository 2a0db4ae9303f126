"""The tasks: where images and clips are placed in a video of 81 frames, and their noise levels."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..media.video import read_frames


@dataclass(frozen=True)
class Place:
    """A slot for an image or clip.

    ``position``: latent frame, as in :func:`~pusa_core.sampling.keyframes.first_latent`. ``length``: pixel frames taken
    from the file; ``last``: its last ones (the video continues them) instead of its first.
    """

    title: str
    position: int
    length: int = 1
    last: bool = False


@dataclass(frozen=True)
class Task:
    """The slots of a task and its noise levels (:func:`pusa_core.parse_noise_levels`); 0 where none is named.

    ``part``: which part of the frames is made anew: ``"mask"``, white in a picture; ``"margin"``, what a smaller clip
    leaves of a larger frame; without it, none.
    """

    places: tuple[Place, ...] = ()
    noise_levels: str = ""
    part: Literal["", "mask", "margin"] = ""


FIRST, MIDDLE, LAST = Place("First frame", 0), Place("Middle frame", 10), Place("Last frame", -1)

TASKS = {
    "text_to_video": Task(),
    "image_to_video": Task((FIRST,)),
    "start_end": Task((FIRST, LAST)),
    "start_end_noise": Task((FIRST, LAST), "0:0.3, -1:0.7"),
    "completion": Task((Place("First frames", 0, 9, last=True), Place("Last frames", -1, 12))),
    "extension_13": Task((Place("Frames to continue", 0, 13, last=True),)),
    "extension_41": Task((Place("Frames to continue", 0, 41, last=True),)),
    "video_to_video": Task((Place("The clip", 0, 81),), "0:0.3, 1-19:1, -1:0.3"),
    "three_keyframes": Task((FIRST, MIDDLE, LAST)),
    "region": Task((Place("The clip", 0, 81),), part="mask"),
    "outpaint": Task((Place("The clip", 0, 81),), part="margin"),
}


def read_task(name: str, *files: str, size: tuple[int, int] | None = None) -> list[tuple[Place, Tensor]]:
    """The slots of task ``name`` with their pixel frames ``[T, H, W, 3]``, read from ``files``.

    With ``size`` (width, height), the frames are scaled to cover it and cropped.

    Raises ``ValueError`` when there is no such task, it takes another number of files, or a clip is too short.
    """
    if name not in TASKS:
        raise ValueError(f'there is no task "{name}"; choose one of {", ".join(TASKS)}')
    places = TASKS[name].places
    if len(files) != len(places):
        wanted = ", ".join(place.title.lower() for place in places) or "none"
        raise ValueError(f"task {name} takes {len(places)} files ({wanted}); {len(files)} are given")
    read = []
    for place, file in zip(places, files, strict=True):
        frames = read_frames(file, size, **{"last" if place.last else "first": place.length})
        if len(frames) < place.length:
            raise ValueError(
                f"task {name} takes {place.length} frames for {place.title.lower()}; {file} has {len(frames)}: give a "
                f"longer clip, or place it with --keyframe"
            )
        read.append((place, frames))
    return read


def usage() -> str:
    """The tasks with the files that each takes, one per line."""
    flags = {"": [], "mask": ["--mask PICTURE"], "margin": ["--size WIDTHxHEIGHT, or --inset"]}
    names = (
        " ".join([name, *(_placeholder(place) for place in task.places), *flags[task.part]])
        for name, task in TASKS.items()
    )
    return "\n".join(names)


def _placeholder(place: Place) -> str:
    return place.title.upper().replace(" ", "_")
