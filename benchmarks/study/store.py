"""An on-disk cache of results, from which an interrupted study resumes."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study.measures import VERSION
from pusa_core.weights.demo_files import DIT, LORA, VAE

Arrays = dict[str, np.ndarray]


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


class Store:
    """Named arrays in a folder, keyed by their inputs, which include the demo model's weights.

    The demo model's LoRA is only part of keys that contain "demo".
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (DIT, LORA, VAE)}
        self._took: dict[Path, float] = {}
        self._inner = 0.0  # time spent in nested computations of the current one

    @property
    def seconds(self) -> float:
        """Total computing time of all requested results, including cached ones."""
        return sum(self._took.values())

    def path(self, kind: str, *key: Any, suffix: str = ".npz") -> Path:
        asked = json.dumps([_plain(part) for part in key], sort_keys=True)
        files = [found for file, found in self._files.items() if file != LORA or '"demo"' in asked]
        content = json.dumps([VERSION, files, asked])
        return self.folder / f"{kind}_{hashlib.sha256(content.encode()).hexdigest()[:16]}{suffix}"

    def get(self, compute: Callable[[], Arrays], kind: str, *key: Any) -> Arrays:
        """The arrays of ``key``, computed on a cache miss."""
        path = self.path(kind, *key)
        if not path.exists():
            started, outer, self._inner = time.monotonic(), self._inner, 0.0
            arrays = compute()
            elapsed = time.monotonic() - started
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                np.savez_compressed(file, **{**arrays, "seconds": np.array(elapsed - self._inner)})  # type: ignore[arg-type]
            partial.replace(path)  # atomic
            self._inner = outer + elapsed
        stored = dict(np.load(path))
        self._took[path] = float(stored.pop("seconds"))
        return stored
