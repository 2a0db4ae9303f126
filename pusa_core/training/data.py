"""Training batches. Every batch is a pure function of the seed and the step, so that resuming needs no other state."""

import hashlib
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..sampling.schedule import PATCH
from .cache import Cache, Entry
from .history import OwnHistory, history_frames
from .objective import FULL_RANGE, NoiseRange, sample_sigmas, with_history, with_regions
from .turns import Turns


def generator(seed: int, *use: object) -> torch.Generator:
    """An independent random stream per use, such as ``generator(seed, "sample", 17)``."""
    digest = hashlib.sha256("/".join(map(str, (seed, *use))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


@dataclass(frozen=True)
class Batch:
    """``latents, noise [B, 16, F, H, W]``; ``context [B, L, text_dim]``; ``sigmas [B, F]`` or ``[B, F, h, w]``."""

    latents: Tensor
    context: Tensor
    noise: Tensor
    sigmas: Tensor
    history: OwnHistory | None = None

    def to(self, device: torch.device) -> "Batch":
        latents, context, noise, sigmas = (
            tensor.to(device) for tensor in (self.latents, self.context, self.noise, self.sigmas)
        )
        return Batch(latents, context, noise, sigmas, self.history and self.history.to(device))


class Order:
    """The clips of each batch: shuffled every epoch, one bucket per batch."""

    def __init__(
        self, buckets: Sequence[tuple[int, ...]], batch: int, seed: int, repeats: Sequence[int] | None = None
    ) -> None:
        """``buckets``, ``repeats``: of each clip; how often an epoch has it."""
        groups: dict[tuple[int, ...], list[int]] = {bucket: [] for bucket in sorted(set(buckets))}
        for clip, bucket in enumerate(buckets):
            groups[bucket] += [clip] * (repeats[clip] if repeats else 1)
        self.groups = list(groups.values())
        self.batch = batch
        self.seed = seed
        self.per_epoch = sum(-(-len(group) // batch) for group in self.groups)
        self.epoch = lru_cache(maxsize=2)(self._epoch)

    def __getitem__(self, index: int) -> list[int]:
        """Clip indices of batch ``index``, counted from the start of training."""
        epoch, place = divmod(index, self.per_epoch)
        return self.epoch(epoch)[place]

    def _epoch(self, epoch: int) -> list[list[int]]:
        random = generator(self.seed, "epoch", epoch)
        batches = []
        for group in self.groups:
            order = [group[i] for i in torch.randperm(len(group), generator=random)]
            missing = -len(order) % self.batch
            order += (order * (missing // len(order) + 1))[:missing]  # the last batch wraps around
            batches += [order[i : i + self.batch] for i in range(0, len(order), self.batch)]
        return [batches[i] for i in torch.randperm(len(batches), generator=random)]


ALONE = Turns((FULL_RANGE,))


@dataclass(frozen=True)
class Sampling:
    """Distribution of noise levels and caption dropout; ``turns`` are counted in batches."""

    seed: int
    p_async: float
    shift: float
    caption_dropout: float
    turns: Turns = ALONE
    p_given: float = 0.0
    p_region: float = 0.0
    p_history: float = 0.0
    p_own_history: float = 0.0


class Batches:
    """Training batches read from the cache; each of ``world`` processes gets ``batch`` clips of a global batch."""

    def __init__(
        self,
        cache: Cache,
        entries: Sequence[Entry],
        no_caption: str,
        batch: int,
        sampling: Sampling,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.cache, self.entries, self.no_caption, self.sampling = cache, entries, no_caption, sampling
        buckets, repeats = [entry.bucket for entry in entries], [entry.repeats for entry in entries]
        self.order = Order(buckets, batch * world, sampling.seed, repeats)
        self.share = range(rank * batch, (rank + 1) * batch)

    def __getitem__(self, index: int) -> Batch:
        clips = self.order[index]
        turns = self.sampling.turns
        noise_range = turns.ranges[turns.of(index)]
        samples = [self._sample(self.entries[clips[i]], index * len(clips) + i, noise_range) for i in self.share]
        latents, context, noise, sigmas, frames = (torch.stack(parts) for parts in zip(*samples, strict=True))
        # the same in every process, as the pass that makes histories is a collective one
        own, *levels = torch.rand(1 + len(clips), generator=generator(self.sampling.seed, "own history", index))
        level = torch.stack(levels)[self.share.start : self.share.stop]
        history = OwnHistory(frames, level) if own < self.sampling.p_own_history else None
        return Batch(latents, context, noise, sigmas, history)

    def _sample(self, entry: Entry, number: int, noise_range: NoiseRange) -> tuple[Tensor, ...]:
        """One clip, with the noise of the ``number``-th sample of the run."""
        random, how = generator(self.sampling.seed, "sample", number), self.sampling
        dropped = torch.rand((), generator=random) < how.caption_dropout
        latents = self.cache.read(entry.latents)
        context = self.cache.read(self.no_caption if dropped else entry.context)
        noise = torch.randn(latents.shape, generator=random)
        sigmas = sample_sigmas(
            1,
            latents.shape[1],
            p_async=how.p_async,
            shift=how.shift,
            noise_range=noise_range,
            p_given=how.p_given,
            generator=random,
        )[0]
        if how.p_history:
            sigmas = with_history(sigmas, p_history=how.p_history, generator=random)
        history = history_frames(sigmas)
        if not how.p_region:
            return latents, context, noise, sigmas, history
        size = latents.shape[2] // PATCH, latents.shape[3] // PATCH
        levels = with_regions(
            sigmas, size, p_region=how.p_region, shift=how.shift, noise_range=noise_range, generator=random
        )
        return latents, context, noise, levels, history


class ReadAhead:
    """Prefetches the next batch while the current one is trained on."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self._pool = ThreadPoolExecutor(1, "batches")
        self._reading: dict[int, Future[Batch]] = {}

    def __getitem__(self, index: int) -> Batch:
        present = self._reading.get(index) or self._read(index)
        self._reading = {index + 1: self._read(index + 1)}
        return present.result()

    def _read(self, index: int) -> "Future[Batch]":
        return self._pool.submit(self.batches.__getitem__, index)


def split(
    entries: Sequence[Entry], validation: float, trained: Collection[str] = ()
) -> tuple[list[Entry], list[Entry]]:
    """Split into training and validation clips (a count, or a fraction below 1), by content hash.

    All excerpts of a clip are on one side.

    ``trained``: content hashes of clips that are held out last, since the run has been trained on them.

    Raises ``ValueError`` when none is left to train on.
    """
    contents = {entry.clip.path: entry.content for entry in entries}
    count = round(validation * len(contents)) if validation < 1 else int(validation)
    if validation and not count:
        count = 1
    if count >= len(contents):
        raise ValueError(f"data.validation is {validation:g}: of {len(contents)} usable clips none is left to train on")
    held = set(sorted(contents, key=lambda path: (contents[path] in trained, contents[path]))[:count])
    return (
        [entry for entry in entries if entry.clip.path not in held],
        [entry for entry in entries if entry.clip.path in held],
    )
