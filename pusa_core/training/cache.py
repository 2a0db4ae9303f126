"""A content-addressed cache of encoded clips and captions, as safetensors.

The key is a hash of the input (bytes of the clip, or the caption), the size and the encoder, so that a change to any of
them is a miss. Entries carry a checksum; a corrupt or unreadable one is encoded again.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..media.decode import DECODING
from ..media.vae import Vae
from ..storage.atomic import SaveError, write_whole
from .clips import Clip, Skip, nearest_size, read_clip
from .config import Config
from .scan import Facts, KnownClips, scan
from .sources import DataOptions

log = logging.getLogger(__name__)

FORMAT = "1"  # of an entry; part of its key
BLOCKS, BLOCK = 64, 1 << 16


@dataclass(frozen=True)
class Entry:
    """A clip with the cache keys of its latents and its caption."""

    clip: Clip
    size: tuple[int, int]
    content: str  # hash of the file
    latents: str
    context: str


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
    clips: Sequence[Clip], data: DataOptions, encoders: Encoders, skip: Skip, facts: Mapping[Path, Facts] | None = None
) -> list[Entry]:
    """The cache entries of the clips; a file that is not a video is reported to ``skip``.

    ``facts``: of the clips, from :func:`.scan.scan`; without them each file is read.
    """
    known = facts if facts is not None else scan(clips, KnownClips(data.cache_folder), skip, lambda *_: None)
    entries = []
    for clip in clips:
        if clip.path not in known:
            continue
        found = known[clip.path]
        size = nearest_size(found.size, data.sizes)
        latents = hash_of(FORMAT, DECODING, found.content, size, data.frames, data.fps, encoders.vae_identity)
        entries.append(Entry(clip, size, found.content, latents, context_name(clip.caption, encoders)))
    return entries


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


def fill(
    cache: Cache,
    entries: Sequence[Entry],
    config: Config,
    encoders: Encoders,
    skip: Skip,
    progress: Callable[[int, int, int, int], None],
    captions: Sequence[str] = (),
) -> list[Entry]:
    """Encode what is not cached; returns the entries that can be trained on.

    Args:
        skip: called for each clip that cannot be decoded.
        progress: ``progress(done, total, captions, all_captions)``; the first two count clips and captions together.
        captions: further captions to encode.
    """
    texts = {context_name(text, encoders): text for text in (*captions, *(entry.clip.caption for entry in entries))}
    missing = {name: text for name, text in texts.items() if not cache.holds(name)}
    total, done = len(texts) + len(entries), len(texts) - len(missing)
    progress(done, total, done, len(texts))
    if missing:
        encode = encoders.load_text()
        for name, text in missing.items():
            context = encode(text)[0].cpu()  # [L, text_dim], zero past the end of the text
            used = len(context) - int(context.any(dim=1).flip(0).int().argmax()) if context.any() else 0
            cache.write(name, context[:used].bfloat16(), len(context))
            progress(done := done + 1, total, done, len(texts))
        del encode  # as large as the DiT: freed before the VAE is loaded
    usable, vae = [], lru_cache(encoders.load_vae)
    for entry in entries:
        try:
            held = cache.holds(entry.latents)
            frames = None if held else read_clip(entry.clip.path, entry.size, config.data.frames, config.data.fps)
        except ValueError as error:
            skip(entry.clip.path.name, str(error))
        else:
            latents = None if frames is None else vae().encode(frames)[0].cpu().half()
            if latents is not None and not latents.isfinite().all():
                skip(entry.clip.path.name, "the VAE encodes it to numbers that are not finite")
            else:
                if latents is not None:
                    cache.write(entry.latents, latents)
                usable.append(entry)
        progress(done := done + 1, total, len(texts), len(texts))
    return usable
