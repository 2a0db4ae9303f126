"""What is known of each clip's file: its content hash, size, frame rate and length.

Reading every byte of a large data set takes minutes, so the results are kept in the cache folder. They stand for a file
of the same path, size and modification time.
"""

import json
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..media.decode import DECODING, shown_rate, shown_size
from ..media.pictures import is_still
from ..storage.atomic import SaveError, write_whole
from ..storage.json_text import parse_json
from .clips import Clip
from .excerpts import frames_at
from .files import file_hash

log = logging.getLogger(__name__)

NAME, FORMAT = "clips.json", f"2, {DECODING}"
SETTLED = 2 * 10**9  # nanoseconds: a file may change again without another time, as far as the file system's clock goes
WAN_RATE, TOLERANCE = 16, 0.5  # frames per second


@dataclass(frozen=True)
class Facts:
    """``content``: SHA-256 of the file; ``size``: displayed width and height; ``rate``: frames per second, or 0.

    ``still``: whether it is a picture. ``lengths``: how many frames it has at a rate, where they were counted.
    """

    content: str
    size: tuple[int, int]
    rate: float
    still: bool = False
    lengths: tuple[tuple[float, int], ...] = ()

    def length(self, fps: float) -> int | None:
        return dict(self.lengths).get(fps)

    def counted_at(self, rates: Collection[float]) -> bool:
        return self.still or all(self.length(rate) is not None for rate in rates)


def look(path: Path) -> Facts:
    """Read a clip's file. Raises ``ValueError`` for one that is neither a video nor a picture."""
    return Facts(file_hash(path), shown_size(path), shown_rate(path), is_still(path))


def counted(path: Path, facts: Facts, rates: Collection[float]) -> Facts:
    """The facts with the number of frames at these rates; the file is decoded for each that is not known yet."""
    missing = [] if facts.still else [rate for rate in rates if facts.length(rate) is None]
    found = [(rate, sum(1 for _ in frames_at(path, rate))) for rate in missing]
    return replace(facts, lengths=(*facts.lengths, *found)) if found else facts


class KnownClips:
    """Facts of the clips of earlier starts, by path, size and modification time."""

    def __init__(self, cache_folder: Path) -> None:
        self._path = cache_folder / NAME
        self._kept = self._read()
        self._changed = False

    def find(self, path: Path) -> Facts | None:
        """The facts of the file as it is now, if they are known."""
        return self._kept.get(_key(path))

    def read(self, path: Path, rates: Collection[float] = ()) -> Facts:
        """Read the file, and remember the result unless the file is still changing."""
        key = _key(path)
        facts = counted(path, self._kept.get(key) or look(path), rates)
        if key == _key(path) and time.time_ns() - key[2] > SETTLED:
            self._kept[key] = facts
            self._changed = True
        return facts

    def save(self) -> None:
        """Keep what is known for the next start; a cache that cannot be written is no failure here."""
        if not self._changed:
            return
        clips = [[*key, asdict(facts)] for key, facts in self._kept.items()]
        text = json.dumps({"format": FORMAT, "clips": clips})
        try:
            write_whole(self._path, lambda path: path.write_text(text, encoding="utf-8"))
        except SaveError as error:
            log.debug("%s", error)

    def _read(self) -> dict[tuple[str, int, int], Facts]:
        try:
            known = parse_json(self._path.read_text(encoding="utf-8"))
            if known["format"] != FORMAT:
                return {}
            return {(str(path), int(size), int(time)): _facts(facts) for path, size, time, facts in known["clips"]}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s cannot be read (%s); every clip is read again", self._path, error)
            return {}


def _facts(values: Mapping[str, Any]) -> Facts:
    width, height = values["size"]
    lengths = tuple((float(rate), int(frames)) for rate, frames in values["lengths"])
    return Facts(str(values["content"]), (int(width), int(height)), float(values["rate"]), values["still"], lengths)


def _key(path: Path) -> tuple[str, int, int]:
    state = path.stat()
    return str(path.resolve()), state.st_size, state.st_mtime_ns


def scan(
    clips: Sequence[Clip],
    known: KnownClips,
    skip: Callable[[str, str], None],
    progress: Callable[[int, int], None],
    rates: Mapping[Path, Collection[float]] | None = None,
) -> dict[Path, Facts]:
    """Facts of every clip; a file that is no video is reported to ``skip``, and progress where files are read.

    ``rates``: at which the frames of a clip are to be counted.
    """
    wanted = rates or {}
    found: dict[Path, Facts | None] = {clip.path: known.find(clip.path) for clip in clips}
    unknown = [path for path, facts in found.items() if facts is None or not facts.counted_at(wanted.get(path, ()))]
    for done, path in enumerate(unknown):
        progress(done, len(unknown))
        try:
            found[path] = known.read(path, wanted.get(path, ()))
        except (ValueError, OSError) as error:
            found[path] = None
            skip(path.name, str(error))
    if unknown:
        progress(len(unknown), len(unknown))
    return {path: facts for path, facts in found.items() if facts is not None}


def at_other_rates(facts: Mapping[Path, Facts], fps: float) -> dict[str, float]:
    """The frame rates of clips that do not have ``fps``, by file name."""
    return {path.name: known.rate for path, known in facts.items() if abs((known.rate or fps) - fps) > TOLERANCE}


def rate_warning(facts: Mapping[Path, Facts]) -> str:
    """What every frame of a clip being used does to its motion; empty where all clips have Wan's rate."""
    if not (others := at_other_rates(facts, WAN_RATE)):
        return ""
    name, rate = max(others.items(), key=lambda item: abs(item[1] - WAN_RATE))
    change = f"{rate / WAN_RATE:.2g} times too slow" if rate > WAN_RATE else f"{WAN_RATE / rate:.2g} times too fast"
    return (
        f"data.fps is 0, which uses every frame of a clip, but {len(others)} of {len(facts)} clips do not have Wan's "
        f"{WAN_RATE} frames per second, such as {name} with {rate:.4g}: its motion is learnt {change}; set data.fps to "
        f"{WAN_RATE}"
    )
