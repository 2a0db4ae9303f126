"""What is known of each clip's file: its content hash, size and frame rate.

Reading every byte of a large data set takes minutes, so the results are kept in the cache folder. They stand for a file
of the same path, size and modification time.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..media.decode import DECODING, shown_rate, shown_size
from ..storage.atomic import SaveError, write_whole
from ..storage.json_text import parse_json
from .clips import Clip
from .files import file_hash

log = logging.getLogger(__name__)

NAME, FORMAT = "clips.json", f"1, {DECODING}"
SETTLED = 2 * 10**9  # nanoseconds: a file may change again without another time, as far as the file system's clock goes
WAN_RATE, TOLERANCE = 16, 0.5  # frames per second


@dataclass(frozen=True)
class Facts:
    """``content``: SHA-256 of the file; ``size``: displayed width and height; ``rate``: frames per second, or 0."""

    content: str
    size: tuple[int, int]
    rate: float


def look(path: Path) -> Facts:
    """Read a clip's file. Raises ``ValueError`` for one that is no video."""
    return Facts(file_hash(path), shown_size(path), shown_rate(path))


class KnownClips:
    """Facts of the clips of earlier starts, by path, size and modification time."""

    def __init__(self, cache_folder: Path) -> None:
        self._path = cache_folder / NAME
        self._kept = self._read()
        self._changed = False

    def find(self, path: Path) -> Facts | None:
        """The facts of the file as it is now, if they are known."""
        return self._kept.get(_key(path))

    def read(self, path: Path) -> Facts:
        """Read the file, and remember the result unless the file is still changing."""
        key = _key(path)
        facts = look(path)
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
    return Facts(str(values["content"]), (int(width), int(height)), float(values["rate"]))


def _key(path: Path) -> tuple[str, int, int]:
    state = path.stat()
    return str(path.resolve()), state.st_size, state.st_mtime_ns


def scan(
    clips: Sequence[Clip], known: KnownClips, skip: Callable[[str, str], None], progress: Callable[[int, int], None]
) -> dict[Path, Facts]:
    """Facts of every clip; a file that is no video is reported to ``skip``, and progress where files are read."""
    found: dict[Path, Facts | None] = {clip.path: known.find(clip.path) for clip in clips}
    unknown = [path for path, facts in found.items() if facts is None]
    for done, path in enumerate(unknown):
        progress(done, len(unknown))
        try:
            found[path] = known.read(path)
        except (ValueError, OSError) as error:
            skip(path.name, str(error))
    if unknown:
        progress(len(unknown), len(unknown))
    return {path: facts for path, facts in found.items() if facts is not None}


def rate_warning(facts: Mapping[Path, Facts]) -> str:
    """What every frame of a clip being used does to its motion; empty where all clips have Wan's rate."""
    others = {
        path.name: known.rate for path, known in facts.items() if abs((known.rate or WAN_RATE) - WAN_RATE) > TOLERANCE
    }
    if not others:
        return ""
    name, rate = max(others.items(), key=lambda item: abs(item[1] - WAN_RATE))
    change = f"{rate / WAN_RATE:.2g} times too slow" if rate > WAN_RATE else f"{WAN_RATE / rate:.2g} times too fast"
    return (
        f"data.fps is 0, which uses every frame of a clip, but {len(others)} of {len(facts)} clips do not have Wan's "
        f"{WAN_RATE} frames per second, such as {name} with {rate:.4g}: its motion is learnt {change}; set data.fps to "
        f"{WAN_RATE}"
    )
