"""Training checkpoints: weights, optimiser state, EMA and step, written atomically.

Random streams are functions of the seed and the step (:mod:`.data`), so that the step is all of the random state.
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .cache import file_hash
from .config import Config
from .files import SUFFIX, remove, write_whole

log = logging.getLogger(__name__)

STATE, INFO, SHARDS = "state.safetensors", "run.json", "shards"
NAME = re.compile(r"step_(\d{8})")
FREE = {
    "data.cache",
    "train.device",
    "train.gradient_checkpointing",
    "train.offload_checkpoints",
    "train.offload_weights",
}
"""Options that do not affect the weights and may change on resume. So may all of [output]."""


def run_identity(config: Config, contents: Mapping[str, str], processes: int) -> dict[str, dict[str, Any]]:
    """Everything that must be unchanged to resume a run.

    ``contents``: content hashes, by option, of options whose content matters rather than the path.
    """
    options = {f"{section}.{name}": value for section, part in asdict(config).items() for name, value in part.items()}
    kept = {
        name: {"value": value, "content": contents.get(name)}
        for name, value in options.items()
        if name not in FREE and not name.startswith("output.")
    }
    if config.train.schedule == "constant":
        del kept["train.steps"]  # a constant rate does not depend on it
    kept["processes"] = {"value": processes, "content": None}
    return json.loads(json.dumps(kept))  # tuples become lists, as in the file


def check_same(saved: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Raise ``ValueError`` naming the first option that differs from the run in ``folder``."""
    for name in (*now, *(saved.keys() - now.keys())):
        old, new = saved.get(name, {}), now.get(name, {})
        if "content" in old and old["content"] is not None and old["content"] == new.get("content"):
            continue
        if old == new:
            continue
        what = f"{name} was {old.get('value')!r}, now it is {new.get('value')!r}"
        if old.get("value") == new.get("value"):
            what = f"the content of {name} ({old.get('value')}) has changed"
        raise ValueError(
            f"cannot resume the run in {folder}: {what}; set it back, or choose another output.folder for a new run"
        )


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

    Raises :class:`pusa_core.training.files.SaveError`; earlier checkpoints are then intact.
    """

    def write(path: Path) -> None:
        path.mkdir()
        save_file({name: value.contiguous() for name, value in tensors.items()}, path / STATE)
        if shards is not None:
            shards.rename(path / SHARDS)
        text = json.dumps(info | {"sha256": _hashes(path)}, indent=1)
        (path / INFO).write_text(text, encoding="utf-8")

    path = checkpoint_path(folder, info["step"])
    write_whole(path, write)
    for old in _all(folder)[:-keep]:
        remove(old)
    return path


def newest_checkpoint(folder: Path) -> Saved | None:
    """The newest valid checkpoint of a run, or None; leftovers of interrupted writes are deleted.

    Damaged ones are logged and skipped. Raises ``ValueError`` when all are damaged.
    """
    for partial in (folder / "checkpoints").glob(f"*{SUFFIX}"):
        remove(partial)
    paths = _all(folder)
    for path in reversed(paths):
        try:
            info = json.loads((path / INFO).read_text(encoding="utf-8"))
            if info["sha256"] != _hashes(path):
                raise ValueError("a checksum differs")
            return Saved(path, info)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            log.warning("checkpoint %s is damaged (%s); the one before it is tried", path, error)
    if paths:
        raise ValueError(f"every checkpoint in {folder / 'checkpoints'} is damaged; choose another output.folder")
    return None


def _hashes(path: Path) -> dict[str, str]:
    """SHA-256 of the files of a checkpoint, except the one that stores the hashes."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != INFO)
    return {file.relative_to(path).as_posix(): file_hash(file) for file in files}


def _all(folder: Path) -> list[Path]:
    """The checkpoints, oldest first."""
    return sorted(path for path in (folder / "checkpoints").glob("step_*") if NAME.fullmatch(path.name))
