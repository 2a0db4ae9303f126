"""Trains the decoder of the demo VAE further: ``python -m demo.training.tune_decoder``.

The encoder stays as it is, and so does every latent: what was trained on latents, the DiT and its LoRAs, need not be
trained anew. The latents get a little noise, as those of a generated clip are not exact.
"""

import argparse
import logging
import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResidualBlock, WanRMS_norm
from pytorch_optimizer import SOAP
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from demo.training.train_vae import clip_batch, forget_the_past, pixel_loss, psnr, save_vae
from pusa_core.media.vae import WanVae
from pusa_core.weights.demo_files import VAE

log = logging.getLogger(__name__)

FRAMES = 13  # of a window
CLIPS = 8  # of a step


class StillBlock(nn.Module):
    """A residual block of the demo VAE as one compiled function of single frames, which halves the time of a step.

    Its convolutions have no weights for past frames (:func:`forget_the_past`), so it needs no cache of them.
    """

    def __init__(self, block: WanResidualBlock) -> None:
        super().__init__()
        self.block = block
        self.of_frames = torch.compile(self._of_frames, dynamic=False)

    def forward(self, x: Tensor, feat_cache: object = None, feat_idx: object = None) -> Tensor:
        """``[B, C, T, H, W]`` -> the same with the block's channels."""
        return self.of_frames(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).transpose(1, 2)

    def _of_frames(self, x: Tensor) -> Tensor:
        def convolve(layer: nn.Conv3d, x: Tensor) -> Tensor:
            return F.conv2d(x, layer.weight[:, :, -1], layer.bias, padding=layer.kernel_size[-1] // 2)

        def activate(norm: WanRMS_norm, x: Tensor) -> Tensor:
            return F.silu(F.normalize(x, dim=1) * norm.scale * norm.gamma.flatten()[:, None, None])

        block = self.block
        shortcut = x if isinstance(block.conv_shortcut, nn.Identity) else convolve(block.conv_shortcut, x)
        x = convolve(block.conv1, activate(block.norm1, x))
        return shortcut + convolve(block.conv2, activate(block.norm2, x))


def replace_layers(module: nn.Module, kind: type[nn.Module], make: Callable[[Any], nn.Module]) -> None:
    """Put ``make(layer)`` in the place of every layer of a kind."""
    for name, child in module.named_children():
        if isinstance(child, kind):
            setattr(module, name, make(child))
        else:
            replace_layers(child, kind, make)


@torch.no_grad()
def encode_windows(vae: WanVae, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random windows ``[count, 3, FRAMES, H, W]``, uint8, and their latents as the decoder takes them."""
    videos, latents = [], []
    for _ in tqdm(range(0, count, CLIPS), desc="encoding", mininterval=10):
        video = clip_batch(generator, CLIPS, FRAMES)
        videos.append(((video + 1) * 127.5).round().to(torch.uint8))
        latents.append(vae.model.encode(video).latent_dist.mean)
    return torch.cat(videos), torch.cat(latents)


def batches(count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches without end, of every window once an epoch."""
    while True:
        yield from torch.randperm(count, generator=generator).split(CLIPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=VAE)
    parser.add_argument("--windows", type=int, default=2400)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--noise", type=float, default=0.1, help="largest standard deviation, relative to the latents'")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch._dynamo.config.recompile_limit = 64  # each block is compiled for the first frame and for those after it

    generator = torch.Generator().manual_seed(args.seed)
    wan = WanVae(VAE)
    vae = wan.model
    videos, latents = encode_windows(wan, args.windows, generator)
    log.info("before: held-out psnr %.2f dB", psnr(vae, range(4)))
    weights = [weight for layer in (vae.post_quant_conv, vae.decoder) for weight in layer.parameters()]
    for weight in weights:
        weight.requires_grad_(True)
    replace_layers(vae.decoder, WanResidualBlock, StillBlock)
    optimizer = SOAP(weights, lr=args.lr, weight_decay=0.0, precondition_frequency=10)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.steps, pct_start=0.05)
    started = time.monotonic()
    for step, chosen in enumerate(islice(batches(len(videos), generator), args.steps), 1):
        noise = torch.randn(latents[chosen].shape, generator=generator) * wan.std
        noise *= args.noise * torch.rand(len(chosen), 1, 1, 1, 1, generator=generator)
        optimizer.zero_grad(set_to_none=True)
        decoded = vae._decode(latents[chosen] + noise, return_dict=False)[0]
        loss, mse = pixel_loss(decoded, videos[chosen] / 127.5 - 1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        forget_the_past(vae)
        schedule.step()
        if step % 50 == 0:
            log.info("step %d psnr %.1f (%.0f s)", step, 10 * math.log10(4 / mse), time.monotonic() - started)
        if step % 500 == 0 or step == args.steps:
            log.info("step %d held-out psnr %.2f dB", step, psnr(vae, range(4)))
    replace_layers(vae.decoder, StillBlock, attrgetter("block"))
    save_vae(vae, args.out)
    log.info("wrote %s after %.0f s", args.out, time.monotonic() - started)


if __name__ == "__main__":
    main()
