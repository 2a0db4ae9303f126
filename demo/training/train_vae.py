"""Trains the demo VAE: diffusers' Wan VAE with 8 base channels instead of 96, saved in the Wan2.1 file layout.

``python -m demo.training.train_vae --out demo/models/demo_vae.safetensors``
"""

import argparse
import copy
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample, WanResidualBlock
from pytorch_optimizer import SOAP
from safetensors.torch import save_file
from torch import Tensor

from demo.clips import FRAMES, draw_scene
from demo.training.vae_names import diffusers_to_wan
from pusa_core.storage.atomic import write_whole
from pusa_core.weights.demo_files import VAE

log = logging.getLogger(__name__)

KL_WEIGHT = 3e-4  # enough to suppress latent channels that the clips do not need
INITIAL_LOG_VARIANCE = -6.0  # start nearly noiseless; an untrained bottleneck passes nothing otherwise
CHROMA_GAIN = 4.0
TRAINING_SEEDS = 1_000_000  # the VAE is trained on scenes from this seed on; held-out clips have smaller seeds


def clip_batch(generator: torch.Generator, batch: int, frames: int) -> Tensor:
    """Random windows of random scenes with random strides, ``[B, 3, frames, H, W]`` in -1..1."""
    clips = []
    for _ in range(batch):
        seed, stride = (int(torch.randint(high, (), generator=generator)) for high in (2**31, 4))
        stride = min(stride + 1, (FRAMES - 1) // max(frames - 1, 1))
        start = int(torch.randint(FRAMES - stride * (frames - 1), (), generator=generator))
        times = range(start, start + stride * (frames - 1) + 1, stride)
        clips.append(torch.from_numpy(draw_scene(TRAINING_SEEDS + seed).render(times)))
    return torch.stack(clips).permute(0, 4, 1, 2, 3) * 2 - 1


@torch.no_grad()
def initialise(vae: AutoencoderKLWan) -> None:
    """Initialise with a nearly noiseless bottleneck, identity residual blocks and amplified colour.

    Temporal resampling starts by selecting the latest frame and by repeating frames, so that what is learned on still
    images carries over to clips immediately.

    Most of a clip is nearly grey background. Without the amplification, the objects' colours stay below the noise of
    the untrained bottleneck for a long time.
    """
    grey = torch.full((3, 3), 1 / 3)
    amplify = grey + CHROMA_GAIN * (torch.eye(3) - grey)
    first = vae.encoder.conv_in.weight
    first.copy_(torch.einsum("oithw,ij->ojthw", first, amplify))
    torch.nn.init.constant_(vae.quant_conv.bias[vae.config.z_dim :], INITIAL_LOG_VARIANCE)
    for layer in vae.modules():
        if isinstance(layer, WanResidualBlock):
            torch.nn.init.zeros_(layer.conv2.weight)
            torch.nn.init.zeros_(layer.conv2.bias)
        if isinstance(layer, WanResample) and hasattr(layer, "time_conv"):
            weight, bias = layer.time_conv.weight, layer.time_conv.bias  # [C or 2 C, C, 3, 1, 1]
            copies = weight.shape[0] // weight.shape[1]
            torch.nn.init.zeros_(weight)
            weight[:, :, -1, 0, 0] = torch.eye(weight.shape[1]).repeat(copies, 1)
            torch.nn.init.zeros_(bias)


CURRICULUM = ((0.60, 1, 20), (1.00, 13, 4))
"""(end as a fraction of the steps, frames, clips): still images first, which teach most per second, then clips."""


@torch.no_grad()
def forget_the_past(vae: AutoencoderKLWan) -> None:
    """Zero the weights of the 3x3x3 convolutions for past frames; only temporal resampling looks back.

    The result is an ordinary Wan VAE with a temporal receptive field of a few frames, so training on clips of 13 frames
    generalises to any length. With all taps it spans over forty frames, which short clips cannot train.
    """
    for layer in vae.modules():
        if isinstance(layer, WanCausalConv3d) and layer.weight.shape[2:] == (3, 3, 3):
            layer.weight[:, :, :2] = 0


def batch_shape(progress: float) -> tuple[int, int]:
    """Number of frames and clips of a batch."""
    return next((frames, clips) for until, frames, clips in CURRICULUM if progress <= until)


def reconstruct(vae: AutoencoderKLWan, video: Tensor, sample: bool) -> tuple[Tensor, Tensor]:
    """Decoded video and the mean KL divergence to the unit Gaussian, nats per latent value."""
    posterior = vae.encode(video).latent_dist
    latents = posterior.sample() if sample else posterior.mean
    kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
    return vae._decode(latents, return_dict=False)[0], kl


def pixel_loss(decoded: Tensor, video: Tensor) -> tuple[Tensor, float]:
    """The loss of pixels in -1..1, which counts colour more than brightness, and their MSE."""
    error = decoded - video
    chroma_error = error - error.mean(dim=1, keepdim=True)
    mse = error.square().mean()
    return error.abs().mean() + 4 * mse + 12 * chroma_error.square().mean(), mse.item()


def backward(vae: AutoencoderKLWan, video: Tensor, parts: int) -> tuple[float, float]:
    """Accumulate the gradients of one of ``parts`` parts of a batch; returns its MSE and KL divergence."""
    decoded, kl = reconstruct(vae, video, sample=True)
    loss, mse = pixel_loss(decoded, video)
    ((loss + KL_WEIGHT * kl) / parts).backward()
    return mse, kl.item()


def psnr(vae: AutoencoderKLWan, seeds: range) -> float:
    """Mean PSNR in dB over whole clips of the given scenes."""
    values = []
    for seed in seeds:
        video = torch.from_numpy(draw_scene(seed).render()).permute(3, 0, 1, 2)[None] * 2 - 1
        with torch.no_grad():
            decoded, _ = reconstruct(vae, video, sample=False)
        mse = (decoded.clamp(-1, 1) - video).square().mean().item()
        values.append(10 * math.log10(4 / mse))
    return sum(values) / len(values)


WHITENING = 0.5


@torch.no_grad()
def normalise_latents(vae: AutoencoderKLWan, video: Tensor) -> None:
    """Fold a linear map into the outer 1x1x1 convolutions, so that the latents suit a small diffusion model.

    Afterwards ``(mu - mean) / std`` with Wan2.1's constants has zero mean per channel, unit variance over all channels
    together, and standard deviations along its principal axes that are the original ones to the power of
    ``1 - WHITENING``. Weak axes, which mostly encode the shape of objects, would otherwise stay below the noise of all
    but the last sampling step.
    """
    mu = vae.encode(video).latent_dist.mean.transpose(0, 1).flatten(1).double()  # [16, N]
    shift = mu.mean(dim=1)
    variances, axes = torch.linalg.eigh(torch.cov(mu))
    log.info("standard deviations of the latents: %s", variances.sqrt().flip(0).numpy().round(3))
    gains = variances.pow(-WHITENING / 2)
    gains /= (gains.square() * variances).mean().sqrt()
    wan_mean, wan_std = (torch.tensor(v).double() for v in (vae.config.latents_mean, vae.config.latents_std))
    matrix = wan_std[:, None] * (axes * gains @ axes.T)  # new mu = matrix (mu - shift) + wan_mean
    inverse = torch.linalg.inv(matrix)
    quant, post = vae.quant_conv, vae.post_quant_conv
    half = len(matrix)
    weight, bias = quant.weight[:half].flatten(1).double(), quant.bias[:half].double()
    quant.weight[:half] = (matrix @ weight).float().view_as(quant.weight[:half])
    quant.bias[:half] = (matrix @ (bias - shift) + wan_mean).float()
    quant.bias[half:] += 2 * matrix.diagonal().log().float()  # approximate; the variance is not used after training
    weight = post.weight.flatten(1).double()
    post.bias += (weight @ (shift - inverse @ wan_mean)).float()
    post.weight.copy_((weight @ inverse).float().view_as(post.weight))


def save_vae(vae: AutoencoderKLWan, path: Path) -> None:
    names = diffusers_to_wan(vae.state_dict())
    tensors = {names[k]: v.to(torch.float16).contiguous() for k, v in vae.state_dict().items()}
    write_whole(path, lambda temporary: save_file(tensors, temporary))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=VAE)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--dim", type=int, default=8, help="base channels; Wan2.1 has 96")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    vae = AutoencoderKLWan(base_dim=args.dim)
    initialise(vae)
    forget_the_past(vae)
    optimizer = SOAP(vae.parameters(), lr=args.lr, weight_decay=0.0, precondition_frequency=10)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.steps, pct_start=0.05)
    # diffusers processes a clip in small chunks, which leave a second core idle: one thread per half of the batch
    torch.set_num_threads(1)
    replicas = [vae, copy.copy(vae)]  # shared weights, but separate caches of past frames
    pool = ThreadPoolExecutor(len(replicas))
    started = time.monotonic()
    for step in range(1, args.steps + 1):
        frames, batch = batch_shape(step / args.steps)
        video = clip_batch(generator, batch, frames)
        optimizer.zero_grad(set_to_none=True)
        figures = list(pool.map(partial(backward, parts=len(replicas)), replicas, video.chunk(len(replicas))))
        mse, kl = (sum(column) / len(figures) for column in zip(*figures, strict=True))
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        forget_the_past(vae)
        schedule.step()
        if step % 50 == 0:
            seconds = time.monotonic() - started
            log.info("step %d psnr %.1f kl %.2f (%.0f s)", step, 10 * math.log10(4 / mse), kl, seconds)
        if step % 100 == 0 or step == args.steps:
            log.info("step %d held-out psnr %.2f dB", step, psnr(vae, range(4)))
            torch.save(vae.state_dict(), args.out.with_suffix(".partial"))
    normalise_latents(vae, clip_batch(generator, 24, 81))
    save_vae(vae, args.out)
    args.out.with_suffix(".partial").unlink()
    log.info("wrote %s after %.0f s", args.out, time.monotonic() - started)


if __name__ == "__main__":
    main()
