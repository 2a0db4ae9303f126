"""Encodes the clips and captions that are not cached."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby

from torch import Tensor

from ..media.vae import Vae
from .cache import Cache, Encoders, Entry, context_name
from .clips import Skip
from .excerpts import read_excerpts


def fill(
    cache: Cache,
    entries: Sequence[Entry],
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
    for _, group in groupby(entries, lambda entry: (entry.clip.path, entry.size, entry.excerpt.fps)):
        excerpts, before = list(group), done
        unusable = {entry.latents: entry for entry in excerpts if not cache.holds(entry.latents)}
        for name, latents in _encoded(list(unusable.values()), vae, skip):
            progress(done := done + 1, total, len(texts), len(texts))
            if latents is not None:
                cache.write(name, latents)
                del unusable[name]
        usable += [entry for entry in excerpts if entry.latents not in unusable]
        progress(done := before + len(excerpts), total, len(texts), len(texts))
    return usable


def _encoded(entries: Sequence[Entry], load_vae: Callable[[], Vae], skip: Skip) -> Iterator[tuple[str, Tensor | None]]:
    """Name and latents of excerpts of one clip, one after the other; None for latents that are not finite."""
    ordered = sorted(entries, key=lambda entry: (entry.excerpt.start, entry.excerpt.frames))
    for entry, pixels in zip(ordered, _readable(ordered, skip), strict=False):
        latents = load_vae().encode(pixels)[0].cpu().half()
        finite = bool(latents.isfinite().all())
        if not finite:
            skip(entry.clip.path.name, "the VAE encodes it to numbers that are not finite")
        yield entry.latents, latents if finite else None


def _readable(entries: Sequence[Entry], skip: Skip) -> Iterator[Tensor]:
    """The pixels of the excerpts, as far as the clip can be decoded."""
    if not entries:
        return
    path = entries[0].clip.path
    try:
        yield from read_excerpts(path, entries[0].size, [entry.excerpt for entry in entries])
    except ValueError as error:
        skip(path.name, str(error))
