"""Training checkpoints: weights, optimiser state, EMA and step, written atomically.

Random streams are functions of the seed and the step (:mod:`.data`), so that the step is all of the random state.
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..storage.atomic import SUFFIX, SaveError, remove, write_whole
from ..storage.json_text import parse_json
from .files import file_hash

log = logging.getLogger(__name__)

STATE, INFO, SHARDS = "state.safetensors", "run.json", "shards"
NAME = re.compile(r"step_(\d{8})")
DIVERGED = "diverged"  # in a checkpoint: how often the loss of the step after it was not finite
HOPELESS = 2  # so often: resuming from it leads to the same


@dataclass(frozen=True)
class Saved:
    """A valid checkpoint. ``info``: ``step``, ``row`` (its row of metrics) and ``identity``."""

    path: Path
    info: dict[str, Any]

    @property
    def step(self) -> int:
        return self.info["step"]

    @property
    def shards(self) -> Path:
        return self.path / SHARDS

    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.path / STATE)


def shards_path(folder: Path) -> Path:
    """Temporary folder for shards, which are written before the rest of a checkpoint."""
    return folder / "checkpoints" / f"{SHARDS}{SUFFIX}"


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"step_{step:08d}"


def write_checkpoint(
    folder: Path, info: dict[str, Any], tensors: Mapping[str, Tensor], keep: int, shards: Path | None = None
) -> Path:
    """Write the checkpoint of ``info["step"]`` and prune all but the ``keep`` newest.

    ``shards``: a folder that is moved into it.

    Raises :class:`pusa_core.storage.atomic.SaveError`; earlier checkpoints are then intact.
    """

    def write(path: Path) -> None:
        path.mkdir()
        save_file({name: value.contiguous() for name, value in tensors.items()}, path / STATE)
        if shards is not None:
            shards.rename(path / SHARDS)
        text = json.dumps(info | {"sha256": _hashes(path)}, indent=1)
        (path / INFO).write_text(text, encoding="utf-8")

    path = checkpoint_path(folder, info["step"])
    if path.exists() and not is_own(path):
        raise SaveError(f"cannot write {path}: it is there, and not a checkpoint of this run; move it away")
    write_whole(path, write)
    every = owned(folder)
    sound = [checkpoint for checkpoint in every if not times_diverged(checkpoint)]
    diverged = [checkpoint for checkpoint in every if times_diverged(checkpoint)]
    for old in (*sound[:-keep], *diverged[:-1]):
        if old != path:
            remove(old)
    return path


def newest_checkpoint(folder: Path) -> Saved | None:
    """The newest valid checkpoint of a run, or None; leftovers of interrupted writes are deleted.

    One whose next step had a loss that was not finite comes after all others, and is out of the question once resuming
    from it gave the same. Damaged ones are logged and skipped. Raises ``ValueError`` when all are damaged.
    """
    for partial in (folder / "checkpoints").glob(f"*{SUFFIX}"):
        remove(partial)
    usable = _best_first(_all(folder))
    for path in usable:
        try:
            info = parse_json((path / INFO).read_text(encoding="utf-8"))
            if info["sha256"] != _hashes(path):
                raise ValueError("a checksum differs")
            return Saved(path, info)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            log.warning("checkpoint %s is damaged (%s); the one before it is tried", path, error)
    if usable:
        raise ValueError(f"every checkpoint in {folder / 'checkpoints'} is damaged; choose another output.folder")
    return None


def next_start(folder: Path) -> int:
    """The step that a resumed run goes on from, unless its checkpoint is damaged; 0: the beginning."""
    return next((read_info(path)["step"] for path in _best_first(owned(folder))), 0)


def _best_first(paths: list[Path]) -> list[Path]:
    usable = [path for path in paths if times_diverged(path) < HOPELESS]
    return sorted(usable, key=lambda path: (-times_diverged(path), path.name), reverse=True)


def mark_diverged(folder: Path, step: int) -> None:
    """Note that the loss after the checkpoint of that step, if there is one, was not finite."""
    path = checkpoint_path(folder, step)
    if is_own(path):
        count = times_diverged(path) + 1
        write_whole(path / DIVERGED, lambda file: file.write_text(str(count), encoding="utf-8"))


def times_diverged(path: Path) -> int:
    try:
        return int((path / DIVERGED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0
    except (OSError, ValueError):
        return 1


def is_own(path: Path) -> bool:
    """Whether a folder is a checkpoint that a training wrote; nothing else is ever replaced or deleted."""
    try:
        info = read_info(path)
        return {"identity", "row", "sha256"} <= info.keys() and info["step"] == int(path.name.removeprefix("step_"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def owned(folder: Path) -> list[Path]:
    """A run's own checkpoints, damaged ones included, oldest first."""
    return [path for path in _all(folder) if is_own(path)]


def read_info(path: Path) -> dict[str, Any]:
    return parse_json((path / INFO).read_text(encoding="utf-8"))


def _hashes(path: Path) -> dict[str, str]:
    """SHA-256 of the files of a checkpoint, except the one that stores the hashes."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name not in (INFO, DIVERGED))
    return {file.relative_to(path).as_posix(): file_hash(file) for file in files}


def _all(folder: Path) -> list[Path]:
    """What looks like a checkpoint, oldest first."""
    found = (path for path in (folder / "checkpoints").glob("step_*") if NAME.fullmatch(path.name))
    return sorted(path for path in found if (path / INFO).exists() or (path / STATE).exists())
