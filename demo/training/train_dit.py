"""Trains the demo's base DiT with one timestep per video: ``python -m demo.training.train_dit``. Needs the VAE.

Its Pusa LoRA is trained by the training command: ``python -m pusa_core.training --config configs/demo.toml``.
"""

import argparse
import logging
import math
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from demo.clips import COLORS, SHAPES, draw_scene
from demo.training.machine import DEVICE
from demo.training.vae_pool import encode_clips
from pusa_core import WanConfig, WanModel, load_checkpoint
from pusa_core.media.demo_text import encode_text, word_vector
from pusa_core.model.attention import attention
from pusa_core.model.rope import PLAIN
from pusa_core.storage.atomic import write_whole
from pusa_core.training import fafm_loss, sample_sigmas
from pusa_core.weights.demo_files import DIT

log = logging.getLogger(__name__)

CACHE = Path(__file__).with_name(".cache")

CONFIG = WanConfig(dim=256, ffn_dim=1024, num_heads=2, num_layers=6)
TRAINING_SEEDS = 10_000  # the DiT is trained on scenes from this seed on; held-out clips have smaller seeds
CAPTION_DROPOUT = 0.1  # for classifier-free guidance
SHIFT = 5.0  # as in the sampler
FRAMES = 21  # latent frames


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Unfused attention: for the 336 tokens of a demo clip, twice as fast on a CPU as PyTorch's fused backward."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
    return (weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)


def cached_clips(count: int) -> tuple[Tensor, list[str]]:
    """Normalised latents ``[count, 16, 21, 8, 8]`` (fp16) and captions; encoded once and cached."""
    path = CACHE / f"latents_{count}.safetensors"
    scenes = [draw_scene(TRAINING_SEEDS + index) for index in range(count)]
    if not path.exists():
        latents = encode_clips(scenes).half()
        write_whole(path, lambda temporary: save_file({"latents": latents}, temporary))
    return load_file(path)["latents"], [scene.caption for scene in scenes]


def warm_up_and_decay(step: int, steps: int) -> float:
    """Learning rate factor: linear warm-up over a twentieth of the steps, then cosine decay to zero."""
    warm_up = steps / 20
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / (steps - warm_up))


def base_optimizers(model: WanModel, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, which needs fewer steps; AdamW for all other parameters.

    AdamW moves every weight by about ``lr``. The first text embedding layer sums 4096 of them per word, so at the full
    learning rate a few steps in the wrong direction can switch off all GELUs of a word for good.
    """
    matrices = [p for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2]
    words = model.get_parameter("text_embedding.0.weight")
    chosen = {id(parameter) for parameter in (*matrices, words)}
    others = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": [words], "lr": lr * CONFIG.dim / CONFIG.text_dim}]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), weight_decay=0.01),
    ]


@torch.no_grad()
def revive(model: WanModel, words: Iterable[str], others: Iterable[str]) -> None:
    """Reinitialise the activations of words whose GELUs are all off, at the mean norm of ``others``."""
    first, weight = model.text_embedding[0], model.get_parameter("text_embedding.0.weight")
    activate = model.text_embedding[:2]  # linear layer and GELU
    strength = torch.stack([activate(word_vector(word).to(DEVICE)).norm() for word in others]).mean()
    for word in words:
        vector = word_vector(word).to(DEVICE)
        wanted = torch.randn(CONFIG.dim, device=DEVICE) * strength * (2 / CONFIG.dim) ** 0.5  # half of the GELUs fire
        weight.add_(torch.outer(wanted - first(vector), vector) / vector.square().sum())


def train(model: WanModel, args: argparse.Namespace) -> None:
    """The training loop: warm-up and decay, gradient clipping, caption dropout, bf16 autocast, fixed seeds.

    With a stride n above 1, only every n-th latent frame of a clip is used. Few frames of many clips teach position and
    direction of motion at a fraction of the cost; training on all frames does not teach the direction at all, because
    an object moves by a tenth of a token between consecutive frames. Frames keep their temporal positions, so that what
    is learned carries over to all frames.
    """
    latents, captions = cached_clips(args.clips)
    latents = latents.to(DEVICE)
    known = {caption: number for number, caption in enumerate(sorted(set(captions)))}
    contexts = torch.cat([encode_text(caption) for caption in known]).to(DEVICE)
    context_of = torch.tensor([known[caption] for caption in captions], device=DEVICE)
    generator = torch.Generator(DEVICE).manual_seed(args.seed)
    optimizers = base_optimizers(model, args.lr)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_up_and_decay(step, args.steps))
        for optimizer in optimizers
    ]
    network = partial(model, attend=attend if DEVICE.type == "cpu" else attention)
    if args.compile:
        for block in model.blocks:  # identical blocks: compiled once
            block.compile(dynamic=False)
    started, average = time.monotonic(), torch.ones((), device=DEVICE)
    for step in range(1, args.steps + 1):
        first = step % ((FRAMES - 1) % args.stride + 1)
        chosen = torch.randint(args.clips, (args.batch,), generator=generator, device=DEVICE)
        kept = torch.rand(args.batch, 1, 1, generator=generator, device=DEVICE) >= CAPTION_DROPOUT
        context = contexts[context_of[chosen]] * kept
        clean = latents[chosen, :, first :: args.stride].float()
        noise = torch.randn(clean.shape, generator=generator, device=DEVICE)
        sigmas = sample_sigmas(args.batch, clean.shape[2], p_async=0.0, shift=SHIFT, generator=generator)
        axes = ((float(args.stride), float(first)), *PLAIN[1:])
        with torch.autocast(DEVICE.type, torch.bfloat16):
            loss = fafm_loss(partial(network, rope_axes=axes), clean, context, noise, sigmas)
        loss.backward()
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        average.lerp_(loss.detach(), max(0.02, 1 / step))  # on the device, without synchronisation
        if step % 50 == 0:
            log.info("step %d loss %.4f (%.0f s)", step, average.item(), time.monotonic() - started)
        if step % 500 == 0:
            save_base(model)
    save_base(model)


def save_base(model: nn.Module) -> None:
    tensors = {name: value.half().cpu().contiguous() for name, value in model.state_dict().items()}
    write_whole(DIT, lambda path: save_file(tensors, path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--stride", type=int, default=1, help="train on every n-th latent frame only")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--compile", action="store_true", help="use torch.compile, a sixth faster; needs a C++ compiler"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue training the existing base (with a different --seed)"
    )
    parser.add_argument("--revive", nargs="+", default=[], help="words whose text embedding to reinitialise")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(args.seed)
    model = WanModel(CONFIG, device=DEVICE)
    if args.resume:
        model.load_state_dict(load_checkpoint(DIT))
        revive(model, args.revive, (*COLORS, *SHAPES))
    else:
        nn.init.zeros_(model.head.head.weight)
        nn.init.zeros_(model.head.head.bias)
    train(model, args)


if __name__ == "__main__":
    main()
