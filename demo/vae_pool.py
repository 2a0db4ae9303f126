"""Many clips through the demo VAE: one thread a core, each with a VAE of its own.

The VAE works through a clip in small pieces, which PyTorch's own threads cannot share well. Several clips at a time
share the cost of going through the pieces.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from demo.clips import FRAMES, Scene
from demo.paths import VAE
from pusa_core.vae import WanVae

T = TypeVar("T")

BATCH = 8  # clips that a VAE encodes together


def encode_clips(scenes: Sequence[Scene], times: Sequence[int] = range(FRAMES)) -> Tensor:
    """The given frames of each scene -> normalised latents ``[len(scenes), 16, F, H / 8, W / 8]``."""
    batches = [scenes[start : start + BATCH] for start in range(0, len(scenes), BATCH)]

    def encode(vae: WanVae, batch: Sequence[Scene]) -> Tensor:
        return vae.encode(torch.stack([torch.from_numpy(scene.render(times)) for scene in batch]))

    return torch.cat(_map(encode, batches))


def decode_clips(latents: Tensor) -> list[Tensor]:
    """Normalised latents ``[N, 16, F, h, w]`` -> N clips ``[T, H, W, 3]`` in 0..1."""
    return _map(lambda vae, latent: vae.decode(latent[None]), list(latents))


def _map(work: Callable[[WanVae, T], Tensor], items: Sequence[T]) -> list[Tensor]:
    workers, threads = os.cpu_count() or 1, torch.get_num_threads()
    vaes: Queue[WanVae] = Queue()
    for _ in range(workers):
        vaes.put(WanVae(VAE))

    def run(item: T) -> Tensor:
        vae = vaes.get()
        try:
            return work(vae, item)
        finally:
            vaes.put(vae)

    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers) as pool:
            return list(tqdm(pool.map(run, items), total=len(items), mininterval=5))
    finally:
        torch.set_num_threads(threads)
