"""The scenes of a long video on disk: whatever a hop has made is kept, under a name that says what it was made from.

The key of a scene is a digest of all that its bits depend on: the recipe, the seed, the prompt, and the key of the
scene before. So a scene that is asked for again is found, one of another seed or prompt is another file, and nothing is
ever replaced: going back to an earlier take finds it.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from ..storage.atomic import SUFFIX, remove, write_whole
from ..storage.json_text import parse_json
from ..weights.files import read_file
from .long_video import Made

log = logging.getLogger(__name__)

INDEX = "scenes.json"
_LATENTS, _IN_FLIGHT, _ABOUT = "latents", "in_flight", "pusa"
_SHOWN = 12  # characters of a key that a name has


def digest(about: Mapping[str, Any]) -> str:
    """SHA-256 of what JSON can hold, whatever its order."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Scenes:
    """The folder of a long video's scenes."""

    folder: Path

    def file(self, number: int, key: str) -> Path:
        return self.folder / f"scene_{number:04d}_{key[:_SHOWN]}.safetensors"

    def picture(self, number: int, key: str) -> Path:
        return self.file(number, key).with_suffix(".png")

    def clear_partial(self) -> None:
        """Delete what writes that were killed have left. The caller holds the lock of the folder."""
        for path in self.folder.glob(f".*{SUFFIX}"):
            remove(path)

    def load(self, number: int, key: str) -> Made | None:
        """A scene that was made before, or None. One that is damaged is named in a warning, and made anew."""
        path = self.file(number, key)
        if not path.exists():
            return None
        try:
            return self._read(path, key)
        except (ValueError, OSError) as error:
            log.warning("scene %d is damaged and is made anew: %s", number, error)
            return None

    def _read(self, path: Path, key: str) -> Made:
        tensors, metadata = read_file(path)
        about = parse_json(metadata.get(_ABOUT, "{}"))
        if not isinstance(about, dict) or about.get("key") != key:
            raise ValueError(f"{path} is another scene's file")
        if _hash(tensors) != about.get("sha256"):
            raise ValueError(f"{path} has changed since it was written")
        # cloned: the file's pages are mapped, and it may be written again
        kept = {name: tensor.clone() for name, tensor in tensors.items()}
        return Made(kept[_LATENTS], kept.get(_IN_FLIGHT))

    def save(self, number: int, key: str, made: Made, about: Mapping[str, Any]) -> None:
        """Write a scene. Raises :class:`pusa_core.storage.atomic.SaveError`; the scenes before it are kept."""
        tensors = {_LATENTS: made.latents} | ({} if made.in_flight is None else {_IN_FLIGHT: made.in_flight})
        tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
        text = json.dumps({**about, "key": key, "sha256": _hash(tensors)})
        metadata = {"format": "pt", _ABOUT: text}
        write_whole(self.file(number, key), lambda path: save_file(tensors, path, metadata))

    def save_picture(self, number: int, key: str, picture: Image.Image) -> None:
        path = self.picture(number, key)
        if not path.exists():
            write_whole(path, picture.save)

    def read_index(self) -> dict[str, Any]:
        """What :meth:`write_index` has written; empty where there is nothing.

        Raises ``ValueError`` for a file that cannot be read: it may say which takes were chosen.
        """
        path = self.folder / INDEX
        if not path.exists():
            return {}
        try:
            return dict(parse_json(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, OSError) as error:
            raise ValueError(
                f"{path} cannot be read ({error}); move it away, and the scenes are found again, but not which takes "
                f"of them were chosen"
            ) from error

    def write_index(self, index: Mapping[str, Any]) -> None:
        text = json.dumps(index, indent=1)
        write_whole(self.folder / INDEX, lambda path: path.write_text(text, encoding="utf-8"))


def _hash(tensors: Mapping[str, Tensor]) -> str:
    state = hashlib.sha256()
    for name in sorted(tensors):
        state.update(f"{name} {tuple(tensors[name].shape)} ".encode())
        state.update(tensors[name].contiguous().numpy().tobytes())
    return state.hexdigest()
