"""The clips of a data set folder: discovery, captions, sizes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..media.decode import VIDEOS
from ..media.pictures import PICTURES
from .captions import read_caption, read_metadata
from .files import exists

CELL = 16  # pixels; every side is a multiple of it
MOST_ELONGATED = 4  # width / height, or height / width, of the sizes that are found by themselves

Skip = Callable[[str, str], None]
"""``skip(file, reason)``: a clip that cannot be used."""


@dataclass(frozen=True)
class Clip:
    path: Path
    caption: str


def find_clips(folder: Path, skip: Skip, allow_outside: bool = False) -> list[Clip]:
    """The clips and pictures with captions in ``folder``, sorted by name; others are reported to ``skip``.

    Those listed in ``metadata.csv`` or ``metadata.jsonl`` (``file_name``, ``text``) if there is one, otherwise every
    video or picture with a ``.txt`` of the same name. A picture of the same name as a video belongs to that.
    ``allow_outside``: the metadata may name files that are not in the folder.

    Raises ``ValueError`` when the metadata cannot be read.
    """
    clips = []
    for path, caption in sorted(_listed(folder, skip, allow_outside)):
        if not exists(path, Path.is_file):
            skip(path.name, "listed in the metadata, but there is no such file")
        elif not caption.strip():
            skip(path.name, f"no caption; write one into {path.with_suffix('.txt').name}, or into the metadata")
        else:
            clips.append(Clip(path, " ".join(caption.split())))
    return clips


def _listed(folder: Path, skip: Skip, allow_outside: bool) -> Iterator[tuple[Path, str]]:
    listed = read_metadata(folder, allow_outside)
    if listed is not None:
        yield from listed
        return
    paths = [path for path in folder.iterdir() if not path.name.startswith(".") and path.suffix.lower() != ".txt"]
    videos = {path.stem: path.name for path in paths if path.suffix.lower() in VIDEOS and path.is_file()}
    for path in paths:
        if path.is_dir():
            skip(path.name, "a folder; clips are read from the folder itself")
            continue
        if path.suffix.lower() not in VIDEOS | PICTURES or not path.is_file():
            skip(path.name, "neither a video nor a picture")
            continue
        if videos.get(path.stem, path.name) != path.name and path.suffix.lower() not in VIDEOS:
            skip(path.name, f"a picture of the same name as {videos[path.stem]}, whose caption it would have")
            continue
        try:
            yield path, read_caption(path.with_suffix(".txt"))
        except (ValueError, OSError) as error:
            skip(path.name, str(error))


def nearest_size(size: tuple[int, int], sizes: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The bucket of ``sizes`` with the aspect ratio nearest to that of ``size``."""
    shape = size[0] / size[1]
    return min(sizes, key=lambda other: max(shape * other[1] / other[0], other[0] / other[1] / shape))


def area_sizes(area: int) -> tuple[tuple[int, int], ...]:
    """Sizes of at most ``area`` pixels and nearly as many, both sides multiples of ``CELL``, of all aspect ratios."""
    sides = range(CELL, int((area * MOST_ELONGATED) ** 0.5) + 1, CELL)
    wide = {(side, area // side // CELL * CELL) for side in sides}
    sizes = {(width, height) for width, height in wide if height and max(width, height) <= MOST_ELONGATED * height}
    return tuple(sorted(sizes | {(height, width) for width, height in sizes}))
