"""The study's LoRAs: short training runs on the demo base that differ only in the compared option."""

import logging
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.demo_model.measure import load_demo
from benchmarks.study.plan import Training
from benchmarks.study.store import Arrays, Store
from demo.clips import draw_scene
from demo.training.machine import DEVICE
from demo.training.train_dit import CAPTION_DROPOUT, TRAINING_SEEDS, attend
from demo.training.vae_pool import encode_clips
from pusa_core import Lora, LoraLayer, fafm_loss, sample_sigmas
from pusa_core.media.demo_text import encode_text
from pusa_core.model.attention import attention
from pusa_core.training import attach_lora

log = logging.getLogger(__name__)

BATCH, RATE, WARM_UP = 16, 1e-3, 15


def clips(store: Store, count: int) -> tuple[Tensor, Tensor]:
    """Training latents ``[count, 16, 21, 8, 8]`` and contexts ``[count, 24, 4096]``."""
    scenes = [draw_scene(TRAINING_SEEDS + index) for index in range(count)]

    def encode() -> Arrays:
        return {"latents": encode_clips(scenes).half().numpy()}

    latents = torch.from_numpy(store.get(encode, "clips", count)["latents"])
    return latents, torch.cat([encode_text(scene.caption) for scene in scenes])


def trained(store: Store, training: Training, snapshots: Iterable[int], training_clips: int) -> Lora:
    """Train a LoRA; a single run provides all ``snapshots``, which differ only in their number of steps.

    The learning rate is constant after a warm-up, so a snapshot equals a shorter run.
    """
    wanted = sorted({training.steps, *snapshots})
    options = (training.rank, training.p_async, training.shift)

    def train() -> Arrays:
        log.info("training a LoRA: rank %d, p_async %g, shift %g, %d steps", *options, wanted[-1])
        return _train(store, training, wanted, training_clips)

    arrays = store.get(train, "lora", *options, wanted, training_clips)
    prefix = f"{training.steps}:"
    names = {key.removeprefix(prefix).rpartition(":")[0] for key in arrays if key.startswith(prefix)}
    layers = {}
    for name in sorted(names):
        down, up = (torch.from_numpy(arrays[f"{prefix}{name}:{part}"]) for part in ("down", "up"))
        layers[name] = LoraLayer(down, up)
    return Lora(layers)


def _train(store: Store, training: Training, snapshots: list[int], training_clips: int) -> Arrays:
    latents, contexts = (tensor.to(DEVICE) for tensor in clips(store, training_clips))
    torch.manual_seed(0)
    model, arrays = load_demo(0.0), {}
    adapters = attach_lora(model, training.rank)
    factors = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(factors, lr=RATE, weight_decay=0.01)
    generator = torch.Generator(DEVICE).manual_seed(0)
    network = partial(model, attend=attend if DEVICE.type == "cpu" else attention)
    for step in tqdm(range(1, max(snapshots) + 1), desc="training", unit="step", mininterval=5):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, step / WARM_UP)
        chosen = torch.randint(training_clips, (BATCH,), generator=generator, device=DEVICE)
        kept = torch.rand(BATCH, 1, 1, generator=generator, device=DEVICE) >= CAPTION_DROPOUT
        clean, context = latents[chosen].float(), contexts[chosen] * kept
        noise = torch.randn(clean.shape, generator=generator, device=DEVICE)
        sigmas = sample_sigmas(
            BATCH, clean.shape[2], p_async=training.p_async, shift=training.shift, generator=generator
        )
        with torch.autocast(DEVICE.type, torch.bfloat16):
            loss = fafm_loss(network, clean, context, noise, sigmas)
        loss.backward()
        nn.utils.clip_grad_norm_(factors, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step in snapshots:
            for name, adapter in adapters.items():
                arrays[f"{step}:{name}:down"] = adapter.down.detach().cpu().numpy().copy()
                arrays[f"{step}:{name}:up"] = adapter.up.detach().cpu().numpy().copy()
    return arrays
