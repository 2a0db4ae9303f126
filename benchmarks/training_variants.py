"""The variants that :mod:`benchmarks.training` compares: our training step and a plain loop with PEFT."""

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pusa_core import WanConfig, WanModel
from pusa_core.model.attention import attention_by
from pusa_core.model.compile import compiled
from pusa_core.model.device import DTYPES
from pusa_core.training import attach_lora, loss_weight
from pusa_core.training.config import Config
from pusa_core.training.config_file import parse_config
from pusa_core.training.data import Batch, generator
from pusa_core.training.experts import Expert
from pusa_core.training.launch import Launch
from pusa_core.training.loop import Trainer
from pusa_core.training.network import TrainedWan, trainable
from pusa_core.training.objective import sample_sigmas
from pusa_core.training.optimizer import build_optimizer
from pusa_core.training.report import Silent
from pusa_core.training.setup import Setup
from pusa_core.training.stop import StopRequest

from .memory import resident

GIB = 2**30
TARGETS = ["q", "k", "v", "o", "ffn.0", "ffn.2"]  # as in the public script
VARIANTS = {
    "ours": "`pusa_core.training`; LoRA weights in fp32",
    "ours-compiled": "the same with `train.compile`, on a CPU also with `train.attention = math`",
    "peft": "plain loop with PEFT; LoRA weights in fp32, autocast if the network is bf16",
    "peft-bf16": "plain loop with PEFT; LoRA weights and their optimiser state in bf16",
}
LORA_DTYPES = {"peft": torch.float32, "peft-bf16": torch.bfloat16}


@dataclass(frozen=True)
class Size:
    network: WanConfig
    rank: int
    pixels: tuple[int, int, int]  # frames, height, width
    words: int = 512
    dtype: str = "bf16"
    recompute: bool = True
    offload: bool = False

    @property
    def variants(self) -> list[str]:
        """Without what makes no difference in fp32, or what takes a minute to compile where the script is tested."""
        left_out = {"fp32": "peft-bf16"}.get(self.dtype), "ours-compiled" if self.network.num_layers < 8 else None
        return [name for name in VARIANTS if name not in left_out]

    def config(self, folder: Path, device: str) -> Config:
        """The training options. The network's weights are random, so the files are empty placeholders."""
        frames, height, width = self.pixels
        (folder / "none").touch()
        options = {
            "model.checkpoint": str(folder / "none"),
            "model.vae": str(folder / "none"),
            "model.text_encoder": "demo",
            "model.dtype": self.dtype,
            "data.folder": str(folder),
            "data.width": str(width),
            "data.height": str(height),
            "data.frames": str(frames),
            "train.rank": str(self.rank),
            "train.lr": "1e-5",
            "train.clip": "0",
            "train.weighting": "reference",
            "train.gradient_checkpointing": json.dumps(self.recompute),
            "train.offload_checkpoints": json.dumps(self.offload),
            "train.device": device,
            "output.folder": str(folder / "run"),
        }
        return parse_config({}, options)


WAN_14B = WanConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=40)
SIZES = {
    "smoke": Size(WanConfig(dim=128, ffn_dim=256, num_heads=1, num_layers=2), 4, (5, 32, 32), 24, "fp32"),
    "small": Size(WanConfig(dim=512, ffn_dim=1024, num_heads=4, num_layers=8), 64, (21, 128, 128), 64, "fp32"),
    "14b": Size(WAN_14B, 512, (81, 480, 832)),
    "14b-offload": Size(WAN_14B, 512, (81, 480, 832), offload=True),
}


class RandomBatches:
    """Batches of one random clip, deterministic by ``index``."""

    def __init__(self, size: Size) -> None:
        self.size = size

    def __getitem__(self, index: int) -> Batch:
        frames, height, width = self.size.pixels
        shape = (1, 16, (frames - 1) // 4 + 1, height // 8, width // 8)
        random = generator(0, "batch", index)
        latents, noise = torch.randn(shape, generator=random), torch.randn(shape, generator=random)
        context = torch.randn(1, self.size.words, self.size.network.text_dim, generator=random)
        return Batch(latents, context, noise, sample_sigmas(1, shape[2], generator=random))


def ours(size: Size, config: Config, compile_blocks: bool) -> Callable[[int], float]:
    launch = Launch(config.train)
    model = TrainedWan(size.network, device=launch.device, dtype=DTYPES[size.dtype])
    model.checkpointing, model.offload = size.recompute, size.offload
    adapters = attach_lora(model, size.rank)
    if compile_blocks:
        model.compiled = [compiled(block) for block in model.blocks]
        model.attend = attention_by("auto" if launch.device.type == "cuda" else "math")
    optimizer = build_optimizer(config.train, trainable(model))
    data: Any = None  # a step only uses its batches
    batches: Any = RandomBatches(size)
    setup = Setup(
        config=config,
        launch=launch,
        report=Silent(),
        stop=StopRequest(),
        identity={},
        data=data,
        batches=batches,
        experts=[Expert("", "none", config.train.noise_range, launch, model, adapters, optimizer)],
        samples=[],
    )
    trainer = Trainer(setup, None)

    def step(index: int) -> float:
        trainer.take_step()
        return trainer.row["loss"]

    return step


def plain(size: Size, config: Config, lora_dtype: torch.dtype) -> Callable[[int], float]:
    from peft import LoraConfig, inject_adapter_in_model

    device = torch.device(config.train.device)
    dtype = DTYPES[size.dtype]
    model = WanModel(size.network, device=device, dtype=dtype).requires_grad_(False)
    lora = LoraConfig(r=size.rank, lora_alpha=size.rank, init_lora_weights=True, target_modules=TARGETS)
    inject_adapter_in_model(lora, model)
    parameters = list(trainable(model).values())
    for parameter in parameters:
        parameter.data = parameter.data.to(device, lora_dtype)
    optimizer = torch.optim.AdamW(parameters, lr=1e-5)
    blocks: list[nn.Module | partial] = list(model.blocks)
    if size.recompute:
        blocks = [partial(checkpoint, block, use_reentrant=False) for block in model.blocks]
    batches = RandomBatches(size)

    def step(index: int) -> float:
        batch = batches[index].to(device)
        sigma = batch.sigmas[:, None, :, None, None]
        noisy, target = (1 - sigma) * batch.latents + sigma * batch.noise, batch.noise - batch.latents
        saved = torch.autograd.graph.save_on_cpu(pin_memory=device.type == "cuda") if size.offload else nullcontext()
        with saved, torch.autocast(device.type, torch.bfloat16, enabled=lora_dtype != dtype):
            velocity = model(noisy.to(dtype), 1000 * batch.sigmas, batch.context.to(dtype), blocks=blocks)
        loss = nn.functional.mse_loss(velocity.float(), target) * loss_weight(batch.sigmas).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def run_variant(variant: str, size: Size, device: str, steps: int) -> dict:
    """Measure in this process: seconds of each step after the first, losses, and peak memory in GiB."""
    import peft  # noqa: F401 (imported for every variant, so that its memory counts for all)

    with tempfile.TemporaryDirectory() as folder:
        config = size.config(Path(folder), device)
        on_gpu = torch.device(device).type == "cuda"
        torch.manual_seed(0)
        try:
            own = variant.startswith("ours")
            step = ours(size, config, "compiled" in variant) if own else plain(size, config, LORA_DTYPES[variant])
            seconds, losses = [], []
            for index in range(steps + 1):
                started = time.perf_counter()
                losses.append(step(index))
                if on_gpu:
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - started)
        except torch.OutOfMemoryError:
            return {"fits": False}
    peak = torch.cuda.max_memory_reserved() / GIB if on_gpu else resident("VmHWM") / GIB
    return {"fits": True, "seconds": seconds[1:], "losses": losses, "peak": peak}
