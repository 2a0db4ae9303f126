"""The clips of a training folder: finding them, their captions, and reading their frames."""

import csv
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..media import resize_cover

log = logging.getLogger(__name__)

VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif"}
NESTED = ("", "train", "videos")  # where metadata's file names may lie; "train" is the layout of Pusa's released set

Skip = Callable[[str, str], None]
"""``skip(file, reason)``: a clip that cannot be used."""


@dataclass(frozen=True)
class Clip:
    path: Path
    caption: str


def find_clips(folder: Path, skip: Skip) -> list[Clip]:
    """The clips with captions in ``folder``, in the order of their names; the others are reported to ``skip``.

    With ``metadata.csv`` or ``metadata.jsonl`` (columns or keys ``file_name`` and ``text``) those it lists, otherwise
    every video beside a ``.txt`` of the same name.

    Raises ``ValueError`` when the metadata cannot be read.
    """
    clips = []
    for path, caption in sorted(_listed(folder)):
        if not path.is_file():
            skip(path.name, "listed in the metadata, but there is no such file")
        elif not caption.strip():
            skip(path.name, f"no caption; write one into {path.with_suffix('.txt').name}, or into the metadata")
        else:
            clips.append(Clip(path, " ".join(caption.split())))
    return clips


def _listed(folder: Path) -> Iterator[tuple[Path, str]]:
    for name, read in (("metadata.csv", _read_csv), ("metadata.jsonl", _read_jsonl)):
        if (folder / name).is_file():
            for row in read(folder / name):
                if not row.get("file_name"):
                    raise ValueError(f"{folder / name} has a row without file_name ({row}); it needs file_name and text")
                yield _locate(folder, row["file_name"]), str(row.get("text") or "")
            return
    for path in folder.iterdir():
        if path.suffix.lower() in VIDEOS:
            text = path.with_suffix(".txt")
            yield path, text.read_text(encoding="utf-8", errors="replace") if text.is_file() else ""


def _locate(folder: Path, name: str) -> Path:
    places = [folder / nested / name for nested in NESTED]
    return next((place for place in places if place.is_file()), places[0])


def _read_csv(path: Path) -> list[dict]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _read_jsonl(path: Path) -> list[dict]:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    try:
        return [dict(json.loads(line)) for line in lines if line.strip()]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not one JSON object a line ({error}); correct that line") from error


def clip_size(path: Path) -> tuple[int, int]:
    """Width and height of a video, read from its header. Raises ``ValueError`` for a file that is no video."""
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            return stream.width, stream.height
    except (av.FFmpegError, IndexError, OSError) as error:
        raise ValueError(f"cannot be read as a video ({error})") from error


def nearest_size(size: tuple[int, int], sizes: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The one of ``sizes`` whose shape is nearest to that of ``size``, so that least is cut away."""
    shape = size[0] / size[1]
    return min(sizes, key=lambda other: max(shape * other[1] / other[0], other[0] / other[1] / shape))


def read_clip(path: Path, size: tuple[int, int], frames: int, fps: float) -> Tensor:
    """The first ``frames`` frames, scaled to cover ``size`` and cut to it: ``[frames, H, W, 3]`` fp32 in 0..1.

    With ``fps``, the frames shown at that rate; otherwise every frame of the file.
    Raises ``ValueError`` when the file is too short or cannot be read.
    """
    import av

    pictures: list[Tensor] = []
    try:
        with av.open(str(path)) as container:
            for picture in _at_rate(container.decode(video=0), fps):
                pictures.append(resize_cover(torch.from_numpy(picture.to_ndarray(format="rgb24"))[None] / 255, *size))
                if len(pictures) == frames:
                    return torch.cat(pictures)
    except (av.FFmpegError, IndexError, OSError) as error:
        raise ValueError(f"cannot be read as a video ({error})") from error
    rate = f" at {fps:g} frames per second" if fps else ""
    raise ValueError(f"too short: {len(pictures)} frames{rate}, {frames} are needed")


def _at_rate(decoded: Iterator, fps: float) -> Iterator:
    """Each decoded frame as often as it is the one on screen at ticks of ``1 / fps`` seconds."""
    if not fps:
        yield from decoded
        return
    start, shown, ticks = None, None, 0
    for picture in decoded:
        start = picture.time if start is None else start
        while shown is not None and start + ticks / fps < picture.time - 1e-6:
            yield shown
            ticks += 1
        shown = picture
    if shown is not None:
        yield shown
