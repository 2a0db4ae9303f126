"""The list of a film's scenes in their folder, and a sheet of their pictures."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from PIL import Image

from ..media.video import picture_grid
from ..sampling.extend import Scene
from .film import Film

SHEET_PICTURES = 40


class Index:
    """The list of a film's scenes, kept up to date on disk."""

    def __init__(self, film: Film) -> None:
        self._film = film
        takes = {number: asdict(take) for number, take in sorted(film.takes.items())}
        self._head = {"job": dict(film.record), "takes": takes}
        self._done: list[dict[str, Any]] = []

    def noted(self, made: Iterable[Scene]) -> Iterator[Scene]:
        """``made``, each written to the list before it is passed on."""
        for scene in made:
            self._done.append(self._entry(scene))
            self.write()
            yield scene

    def write(self) -> None:
        self._film.scenes.write_index({**self._head, "scenes": self._done})

    def _entry(self, scene: Scene) -> dict[str, Any]:
        scenes, timeline, hop = self._film.scenes, self._film.timeline, scene.hop
        first, end = (timeline.first_frame(latent) for latent in (hop.start, hop.start + hop.count))
        return {
            **scene.about(),
            "from": round(first / timeline.fps, 3),
            "to": round(min(end, timeline.total) / timeline.fps, 3),
            "latents": scenes.file(hop.number, scene.key).name,
            "picture": scenes.picture(hop.number, scene.key).name,
        }

    def kept(self) -> str:
        """Which scenes are kept and where, for a message."""
        count = len(self._done)
        names = "no scene" if not count else "scene 1" if count == 1 else f"scenes 1 to {count}"
        return f"{names} of {len(self._film.hops)} kept in {self._film.scenes.folder}"

    def sheet(self) -> Image.Image:
        """The pictures of the scenes with their numbers, of at most :data:`SHEET_PICTURES`."""
        step = -(-len(self._done) // SHEET_PICTURES)
        pictures, labels = [], []
        for entry in self._done[::step]:
            with Image.open(self._film.scenes.folder / entry["picture"]) as picture:
                pictures.append(picture.convert("RGB"))
            labels.append(f"{entry['number']}: {entry['from']:g} s, seed {entry['seed']}")
        return picture_grid(pictures, labels)
