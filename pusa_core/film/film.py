"""A long video that is planned, and its frames: scenes are decoded as they come, in order, each latent once."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..media.vae import LATENT_CHANNELS, STRIDE
from ..media.video import to_uint8
from ..sampling.extend import LongVideo, Scene, Take
from ..sampling.keyframes import pixel_length
from ..sampling.long_video import Made, Past, window_of
from ..sampling.plan import Hop, Timeline
from ..sampling.scenes import Scenes, digest
from ..sampling.settings import Settings
from ..sampling.windows import Recipe

STILL = 9  # frames of a picture that stands still: an image latent and two others


class Vae(Protocol):
    """Pixel frames in 0..1 <-> normalised latents, in order."""

    def encode(self, frames: Tensor) -> Tensor:
        """``[T, H, W, 3]`` -> ``[1, 16, F, h, w]``."""
        ...

    def decode_stream(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """Latents ``[1, 16, F, h, w]`` of one video, in order -> its frames ``[1, T, H, W, 3]``, some at a time."""
        ...


class Beginning(Protocol):
    """Pixel frames that a video begins with. ``size``: width and height; ``name`` is for messages."""

    @property
    def frames(self) -> int: ...

    @property
    def name(self) -> str: ...

    def pictures(self, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """All of them, ``[H, W, 3]`` uint8."""
        ...

    def last(self, count: int, size: tuple[int, int]) -> np.ndarray:
        """The last ``count``, ``[count, H, W, 3]`` uint8."""
        ...


@dataclass(frozen=True)
class Film:
    """A long video that is planned.

    ``clip``: pixel frames that it begins with; or ``latents [1, 16, F, h, w]``, normalised; or neither. ``identity``:
    of networks and prompts beside it, for the keys of scenes. ``record``: what the list of scenes says of the whole.
    """

    settings: Settings
    recipe: Recipe
    timeline: Timeline
    scenes: Scenes
    identity: Mapping[str, Any]
    record: Mapping[str, Any]
    clip: Beginning | None = None
    latents: Tensor | None = None
    hops: Sequence[Hop] = ()
    takes: dict[int, Take] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        return self.settings.width, self.settings.height

    @property
    def window(self) -> int:
        return window_of(self.settings)

    @property
    def known(self) -> int:
        """Latents that the windows go on from: of the end of what is given, at most a window."""
        return min(self.window, (self.timeline.given + 3) // 4)

    @property
    def prompts(self) -> list[str]:
        """Every prompt that a scene is made with."""
        return sorted({hop.prompt for hop in self.hops} | {take.prompt for take in self.takes.values() if take.prompt})

    def video(self, given_key: str) -> LongVideo:
        """The video as its scenes depend on it; ``given_key`` as :func:`given_latents` says."""
        return LongVideo(self.settings, self.recipe, self.hops, self.takes, {"given": given_key, **self.identity})


@dataclass(frozen=True)
class Given:
    """What the scenes go on from: ``latents [1, 16, F, h, w]``, or none, with a ``key`` of their bits.

    ``still``: of a single picture, its latents when it stands still, whose colours the scenes shall have.
    """

    latents: Tensor
    key: str
    still: Tensor | None = None

    def past(self, window: int) -> Past:
        return Past.start(self.latents, window, self.still)


def given_latents(film: Film, vae: Vae, vae_name: str) -> Given:
    """What the scenes of a film go on from.

    Latents of a clip's end are kept like a scene, so that they have the same bits on every machine that goes on from
    it. Raises ``ValueError`` for frames that become NaN.
    """
    height, width = (side // STRIDE for side in (film.settings.height, film.settings.width))
    if film.latents is not None:
        bits = film.latents.float().cpu().contiguous().numpy().tobytes()
        return Given(film.latents, hashlib.sha256(bits).hexdigest())
    if film.clip is None:
        return Given(torch.zeros(1, LATENT_CHANNELS, 0, height, width), "")
    frames = film.clip.last(pixel_length(film.known), film.size)
    if film.known == 1:
        frames = frames.repeat(STILL, axis=0)
    pixels = hashlib.sha256(frames.tobytes()).hexdigest()
    key = digest({"pixels": pixels, "size": film.size, "vae": vae_name})
    found = film.scenes.load(0, key)
    if found is None:
        found = Made(vae.encode(torch.from_numpy(frames).float() / 255).cpu())
        if not found.latents.isfinite().all():
            raise ValueError(f"{film.clip.name} becomes NaN or infinite in the VAE; choose another VAE file")
        film.scenes.save(0, key, found, {"number": 0, "clip": film.clip.name})
    if film.known > 1:
        return Given(found.latents, key)
    return Given(found.latents[:, :, :1], key, found.latents[:, :, 1:])


def film_pictures(film: Film, vae: Vae, given: Tensor, made: Iterable[Scene]) -> Iterator[np.ndarray]:
    """The frames ``[H, W, 3]`` uint8: those of the clip as they are, then the scenes'; at most the asked length.

    ``given``: the latents that the scenes go on from, which the decoder sees before theirs.

    A picture of every scene is saved on the way.
    """
    if film.clip is not None:
        yield from film.clip.pictures(film.size)
    shown = film.timeline.given - pixel_length(given.shape[2]) if given.shape[2] else 0  # frames before the decoder's
    middles: dict[int, Scene] = {}

    def latents() -> Iterator[Tensor]:
        yield given
        for scene in made:
            middles[film.timeline.first_frame(scene.hop.start + scene.hop.count // 2)] = scene
            yield scene.latents

    def numbered() -> Iterator[tuple[int, np.ndarray]]:
        number = shown
        for frames in vae.decode_stream(latents()):
            for picture in to_uint8(frames[0]):
                yield number, picture
                number += 1

    own = 0 if film.clip is None else film.timeline.given  # the decoder needs these latents; the frames are the clip's
    for number, picture in islice(numbered(), film.timeline.total - shown):
        if scene := middles.pop(number, None):
            film.scenes.save_picture(scene.hop.number, scene.key, Image.fromarray(picture))
        if number >= own:
            yield picture
