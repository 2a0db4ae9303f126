"""Many clips through the demo VAE: one thread a core, each with a VAE of its own.

The VAE works through a clip in small pieces, which PyTorch's own threads cannot share well. Several clips at a time
share the cost of going through the pieces.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from queue import Queue

import torch
from torch import Tensor
from tqdm import tqdm

from demo.paths import VAE
from pusa_core.vae import WanVae


BATCH = 8  # clips that a VAE encodes together


def encode_clips(clips: Iterable[Tensor], total: int) -> Tensor:
    """``[T, H, W, 3]`` each, in 0..1 -> normalised latents ``[total, 16, F, H / 8, W / 8]``."""
    batches = (torch.stack(batch) for batch in _batched(clips, BATCH))
    return torch.cat(_map(lambda vae, batch: vae.encode(batch), batches, -(-total // BATCH)))


def decode_clips(latents: Tensor) -> list[Tensor]:
    """Normalised latents ``[N, 16, F, h, w]`` -> N clips ``[T, H, W, 3]`` in 0..1."""
    return _map(lambda vae, latent: vae.decode(latent[None]), latents, len(latents))


def _batched(clips: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    remaining = iter(clips)
    while batch := list(islice(remaining, size)):
        yield batch


def _map(work: Callable[[WanVae, Tensor], Tensor], items: Iterable[Tensor], total: int) -> list[Tensor]:
    workers, threads = os.cpu_count() or 1, torch.get_num_threads()
    vaes: Queue[WanVae] = Queue()
    for _ in range(workers):
        vaes.put(WanVae(VAE))

    def run(item: Tensor) -> Tensor:
        vae = vaes.get()
        try:
            return work(vae, item)
        finally:
            vaes.put(vae)

    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers) as pool:
            return list(tqdm(pool.map(run, items), total=total, mininterval=5))
    finally:
        torch.set_num_threads(threads)
