"""Train the demo DiT: first the base with one timestep a video, then the Pusa LoRA with one a frame.

``python -m demo.train_dit base`` and then ``python -m demo.train_dit lora``; the VAE must exist.
"""

import argparse
import logging
import time

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from demo.clips import draw_scene
from demo.paths import CACHE, DIT, LORA, VAE
from pusa_core import WanConfig, WanModel, load_checkpoint, save_lora
from pusa_core.demo_text import encode_text
from pusa_core.training import attach_lora, detach_lora, fafm_loss, sample_sigmas
from pusa_core.vae import WanVae

log = logging.getLogger(__name__)

CONFIG = WanConfig(dim=256, ffn_dim=1024, num_heads=2, num_layers=6)
TRAINING_SEEDS = 10_000  # scenes of the DiT: seeds from here on; held-out clips have smaller ones
CAPTION_DROPOUT = 0.1  # for classifier-free guidance
SHIFT = 5.0  # the sampler's


def cached_clips(count: int) -> tuple[Tensor, list[str]]:
    """Normalised latents ``[count, 16, 21, 8, 8]`` (fp16) and captions; encoded once, then read from the cache."""
    path = CACHE / f"latents_{count}.safetensors"
    scenes = [draw_scene(TRAINING_SEEDS + index) for index in range(count)]
    if not path.exists():
        vae, started = WanVae(VAE), time.monotonic()
        latents = torch.empty(count, 16, 21, 8, 8, dtype=torch.float16)
        for index, scene in enumerate(scenes):
            latents[index] = vae.encode(torch.from_numpy(scene.render()))[0]
            if index % 500 == 499:
                log.info("encoded %d clips (%.0f s)", index + 1, time.monotonic() - started)
        path.parent.mkdir(exist_ok=True)
        save_file({"latents": latents}, path)
    return load_file(path)["latents"], [scene.caption for scene in scenes]


def train(model: nn.Module, parameters: list[nn.Parameter], args: argparse.Namespace, p_async: float) -> None:
    """The whole loop: AdamW, linear warm-up and cosine decay, bf16 autocast, fixed seeds."""
    latents, captions = cached_clips(args.clips)
    contexts = {caption: encode_text(caption)[0] for caption in set(captions)}
    generator = torch.Generator().manual_seed(args.seed)
    optimizer = torch.optim.AdamW(parameters, lr=args.lr, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.steps, pct_start=0.05)
    started, average = time.monotonic(), None
    for step in range(1, args.steps + 1):
        chosen = torch.randint(args.clips, (args.batch,), generator=generator)
        context = torch.stack([contexts[captions[index]] for index in chosen])
        context[torch.rand(args.batch, generator=generator) < CAPTION_DROPOUT] = 0
        clean = latents[chosen].float()
        noise = torch.randn(clean.shape, generator=generator)
        sigmas = sample_sigmas(args.batch, clean.shape[2], p_async=p_async, shift=SHIFT, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            loss = fafm_loss(model, clean, context, noise, sigmas)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        if step % 50 == 0:
            log.info("step %d loss %.4f (%.0f s)", step, average, time.monotonic() - started)
        if step % 500 == 0 and args.stage == "base":
            save_base(model)


def save_base(model: nn.Module) -> None:
    DIT.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in model.state_dict().items()}, DIT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("base", "lora"))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(args.seed)
    model = WanModel(CONFIG)
    if args.stage == "base":
        nn.init.zeros_(model.head.head.weight)
        nn.init.zeros_(model.head.head.bias)
        train(model, list(model.parameters()), args, p_async=0.0)
        save_base(model)
        return
    model.load_state_dict(load_checkpoint(DIT))
    adapters = attach_lora(model, args.rank)
    train(model, [parameter for parameter in model.parameters() if parameter.requires_grad], args, p_async=1.0)
    LORA.parent.mkdir(parents=True, exist_ok=True)
    save_lora(detach_lora(model, adapters), LORA)


if __name__ == "__main__":
    main()
