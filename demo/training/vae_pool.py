"""Encodes and decodes many clips with the demo VAE, in several threads with one VAE each.

The VAE processes a clip in small chunks, which PyTorch's own threads cannot parallelise well. Batching clips amortises
the overhead per chunk. A GPU needs large batches, and threads that render the next ones in the meantime.
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from demo.clips import FRAMES, Scene
from demo.training.machine import DEVICE
from pusa_core.media.vae import WanVae
from pusa_core.weights.demo_files import VAE

T = TypeVar("T")

ON_CPU = DEVICE.type == "cpu"
WORKERS = (os.cpu_count() or 1) if ON_CPU else 8
BATCH = 8 if ON_CPU else 128  # maximum number of clips per batch


def encode_clips(scenes: Sequence[Scene], times: Sequence[int] = range(FRAMES)) -> Tensor:
    """The given frames of each scene -> normalised latents ``[len(scenes), 16, F, H / 8, W / 8]``."""
    size = _batch(len(scenes))
    batches = [scenes[start : start + size] for start in range(0, len(scenes), size)]

    def encode(vae: WanVae, batch: Sequence[Scene]) -> Tensor:
        return vae.encode(torch.stack([torch.from_numpy(scene.render(times)) for scene in batch])).cpu()

    return torch.cat(_map(encode, batches))


def decode_clips(latents: Tensor) -> Tensor:
    """Normalised latents ``[N, 16, F, h, w]`` -> clips ``[N, T, H, W, 3]`` in 0..1."""
    return torch.cat(_map(WanVae.decode_batch, list(latents.split(_batch(len(latents))))))


def _batch(count: int) -> int:
    return min(BATCH, math.ceil(count / WORKERS))


def _map(work: Callable[[WanVae, T], Tensor], items: Sequence[T]) -> list[Tensor]:
    threads = torch.get_num_threads()
    vaes: Queue[WanVae] = Queue()
    for _ in range(min(WORKERS, len(items))):
        vaes.put(WanVae(VAE, DEVICE))

    def run(item: T) -> Tensor:
        vae = vaes.get()
        try:
            return work(vae, item)
        finally:
            vaes.put(vae)

    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(WORKERS) as pool:
            return list(tqdm(pool.map(run, items), total=len(items), mininterval=5))
    finally:
        torch.set_num_threads(threads)
