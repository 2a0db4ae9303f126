"""A content-addressed cache of encoded clips and captions, as safetensors.

The key is a hash of the input (bytes of the clip, or the caption), the size and the encoder, so that a change to any of
them is a miss. Entries carry a checksum; a corrupt or unreadable one is encoded again.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..media.decode import DECODING
from ..media.vae import Vae
from ..storage.atomic import SaveError, write_whole
from .clips import Clip, Skip, nearest_size
from .excerpts import Excerpt, excerpts_of
from .scan import Facts, KnownClips, scan
from .sources import DataOptions

log = logging.getLogger(__name__)

FORMAT = "1"  # of an entry; part of its key
RESAMPLING = "2"  # how clips are brought to another rate; part of the keys of those that are
BLOCKS, BLOCK = 64, 1 << 16


@dataclass(frozen=True)
class Entry:
    """An excerpt of a clip, with the cache keys of its latents and its caption; an epoch has it ``repeats`` times."""

    clip: Clip
    size: tuple[int, int]
    content: str  # hash of the file
    latents: str
    context: str
    excerpt: Excerpt
    repeats: int = 1

    @property
    def bucket(self) -> tuple[int, int, int]:
        """Width, height and frames; equal within a batch."""
        return (*self.size, self.excerpt.frames)


@dataclass(frozen=True)
class Encoders:
    """VAE and text encoder, loaded on the first cache miss."""

    load_vae: Callable[[], Vae]
    load_text: Callable[[], Callable[[str], Tensor]]
    vae_identity: str
    text_identity: str


def file_identity(path: Path) -> str:
    """A hash of a weight file's size and sampled blocks; for a folder, of all files in it."""
    if path.is_dir():
        return hash_of(*(file_identity(file) for file in sorted(path.rglob("*")) if file.is_file()))
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for index in range(BLOCKS):
            file.seek(size * index // BLOCKS)
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def hash_of(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def entry_names(
    clips: Sequence[Clip],
    data: DataOptions,
    encoders: Encoders,
    skip: Skip,
    facts: Mapping[Path, Facts] | None = None,
    repeats: int = 1,
) -> list[Entry]:
    """The cache entries of the clips; one that is too short, and a file that is not a video, is reported to ``skip``.

    ``facts``: of the clips, from :func:`.scan.scan`; without them each file is read.
    """
    if facts is None:
        rates = {clip.path: data.counted_rates for clip in clips}
        facts = scan(clips, KnownClips(data.cache_folder), skip, lambda *_: None, rates)
    entries = []
    for clip in clips:
        if (found := facts.get(clip.path)) is None:
            continue
        size, context = nearest_size(found.size, data.sizes), context_name(clip.caption, encoders)
        try:
            excerpts = excerpts_of(data, found)
        except ValueError as error:
            skip(clip.path.name, str(error))
            continue
        for excerpt in excerpts:
            latents = latents_name(found.content, size, excerpt, encoders)
            entries.append(Entry(clip, size, found.content, latents, context, excerpt, repeats))
    return entries


def latents_name(content: str, size: tuple[int, int], excerpt: Excerpt, encoders: Encoders) -> str:
    optional = [f"from {excerpt.start}"] if excerpt.start else []
    optional += [f"resampled {RESAMPLING}"] if excerpt.fps else []
    return hash_of(FORMAT, DECODING, content, size, excerpt.frames, excerpt.fps, encoders.vae_identity, *optional)


def context_name(caption: str, encoders: Encoders) -> str:
    return hash_of(FORMAT, caption, encoders.text_identity)


class CacheError(Exception):
    """An entry that was there at the start cannot be read any more; the message names it."""


class Cache:
    """Cache entries in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"cannot make the cache folder {folder} ({error}); set data.cache to a folder that can be written, or "
                f"move the clips into one"
            ) from error

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def holds(self, name: str) -> bool:
        """Whether the entry exists and its checksum matches; logs a warning for a corrupt one."""
        if not self.path(name).exists():
            return False
        try:
            with safe_open(self.path(name), framework="pt") as file:
                about = file.metadata()
                whole = about["sha256"] == _checksum(file.get_tensor("value"), about["length"])
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            log.warning("cache entry %s cannot be read (%s); it is made again", self.path(name), error)
            return False
        if not whole:
            log.warning("cache entry %s is damaged (checksum mismatch); it is made again", self.path(name))
        return whole

    def write(self, name: str, value: Tensor, length: int = 0) -> None:
        """Write an entry atomically. ``length``: number of rows that :meth:`read` zero-pads to.

        Raises :class:`pusa_core.storage.atomic.SaveError`.
        """
        value = value.contiguous()
        about = {"sha256": _checksum(value, str(length)), "length": str(length)}
        try:
            write_whole(self.path(name), lambda path: save_file({"value": value}, path, about))
        except SaveError as error:
            if isinstance(error.__cause__, PermissionError) and self.holds(name):
                return  # Windows: another run wrote the same entry and is reading it
            raise SaveError(f"{error}; make room, or set data.cache to another folder") from error

    def read(self, name: str) -> Tensor:
        """The entry's tensor in fp32: latents ``[16, F, h, w]`` or a context ``[L, text_dim]``."""
        try:
            with safe_open(self.path(name), framework="pt") as file:
                value, length = file.get_tensor("value").float(), int(file.metadata()["length"])
        except (OSError, SafetensorError, KeyError) as error:
            raise CacheError(
                f"the cache entry {self.path(name)} cannot be read ({error}); leave data.cache in its place while a "
                f"training runs"
            ) from error
        return torch.nn.functional.pad(value, (0, 0, 0, length - len(value))) if length else value


def _checksum(value: Tensor, length: str) -> str:
    """Over the values, dtype, shape and padded length."""
    digest = hashlib.sha256(f"{value.dtype} {list(value.shape)} {length}".encode())
    digest.update(value.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
