"""The options of a training run: four sections of dataclasses, validated before anything is loaded."""

# ruff: noqa: RUF009 (option() returns a dataclass field, which ruff cannot know)

from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from typing import Any, Literal

import torch

from ..model.attention import Backend
from ..sampling.keyframes import first_latent, latent_length
from ..sampling.pipeline import parse_keyframe
from .objective import FULL_RANGE, Weighting, check_range
from .optimizer import OptimizerName, optimizer_arguments
from .options import NodeInput, check_values, option
from .outputs import OutputOptions
from .schedule import Schedule
from .sources import DataOptions, ModelOptions, naming

Mode = Literal["lora", "full"]

MAX_LR = 0.1  # Adam moves each weight by about the learning rate per step; weights are about 0.02
PRODIGY_LR = 0.1, 1.0  # the least and the most; it is multiplied by the rate that Prodigy finds


LR_FIX = "1e-6 to 1e-2 (1e-5 for rank 512 as in the paper), or 1 for prodigy"


@dataclass(frozen=True)
class TrainOptions:
    mode: Mode = option("lora, or full to train all weights", default="lora")
    rank: int = option("rank of the LoRA", default=64, ge=1, node=NodeInput(5, basic=True, max=4096))
    alpha: float = option(
        "the LoRA is scaled by alpha / rank; 0: alpha = rank, scale 1", default=0.0, ge=0, node=NodeInput(14)
    )
    dropout: float = option("dropout of the LoRA's input", default=0.0, ge=0, lt=1, node=NodeInput(15))
    steps: int = option("optimiser steps", default=1000, ge=1, node=NodeInput(4, basic=True))
    batch: int = option("clips per step and process", default=1, ge=1, node=NodeInput(12, max=1024))
    accumulate: int = option("gradient accumulation: batches per step", default=1, ge=1, node=NodeInput(13, max=1024))
    lr: float = option(
        "learning rate",
        default=1e-4,
        gt=0,
        le=PRODIGY_LR[1],
        fix=LR_FIX,
        node=NodeInput(6, "learning_rate", basic=True, step=1e-7),
    )
    warmup: int = option("linear warm-up steps", default=0, ge=0, node=NodeInput(16))
    schedule: Schedule = option(
        "constant; linear, cosine or rex: decay to 0 at the last step; cosine_restarts: in several cycles; wsd: over "
        "the last fifth",
        default="constant",
        node=NodeInput(17),
    )
    cycles: int = option("cycles of cosine_restarts", default=3, ge=1, node=NodeInput(47))
    optimizer: OptimizerName = option(
        "adamw; adamw8bit (needs bitsandbytes and an NVIDIA GPU); adafactor, came, lion, muon, prodigy (finds the "
        "learning rate) or schedulefree AdamW (need pytorch_optimizer)",
        default="adamw",
        node=NodeInput(18),
    )
    optimizer_args: tuple[str, ...] = option(
        'further arguments of the optimizer, such as ["d_coef=2", "betas=[0.9, 0.99]"]', default=()
    )
    weight_decay: float = option(
        "weight decay of the optimizer", default=0.01, ge=0, node=NodeInput(19, step=0.001, max=10)
    )
    betas: tuple[float, float] = option("betas of AdamW", default=(0.9, 0.999))
    clip: float = option(
        "maximum gradient norm; 0: no clipping", default=1.0, ge=0, node=NodeInput(48, "max_grad_norm")
    )
    p_async: float = option(
        "probability that every frame gets its own noise level", default=1.0, ge=0, le=1, node=NodeInput(21)
    )
    p_region: float = option(
        "probability that boxes within the frames, over some of the time, get noise levels of their own; for masks",
        default=0.0,
        ge=0,
        le=1,
        node=NodeInput(44),
    )
    p_history: float = option(
        "probability that a clip is a window of a long video: first frame given, the next at low noise levels, the "
        "others at one",
        default=0.0,
        ge=0,
        le=1,
        node=NodeInput(45),
    )
    p_own_history: float = option(
        "probability that the frames at low levels of p_history are made by the network itself, with its errors",
        default=0.0,
        ge=0,
        le=1,
        node=NodeInput(46),
    )
    shift: float = option(
        "shift of the noise levels: 5 as in the released weights, 1 as in the paper's text",
        default=5.0,
        gt=0,
        fix="5 (as released) or 1 (as in the paper)",
        node=NodeInput(22, max=100),
    )
    noise_range: tuple[float, float] = option(
        "lowest and highest noise level to train on: [0.875, 1] for Wan2.2's high-noise expert, [0, 0.875] for the "
        "low-noise one",
        default=FULL_RANGE,
    )
    switch_every: int = option("steps between the experts, with model.low_noise_checkpoint", default=10, ge=1)
    p_given: float = option(
        "probability that a frame's noise level is below noise_range, as those of given frames are in sampling",
        default=0.5,
        ge=0,
        le=1,
        node=NodeInput(43),
    )
    weighting: Weighting = option(
        "loss weighting: none, bell (per frame, by its noise level) or reference", default="none", node=NodeInput(23)
    )
    ema: float = option(
        "decay of an exponential moving average of the trained weights, such as 0.99; 0: off",
        default=0.0,
        ge=0,
        lt=1,
        node=NodeInput(24, step=0.00001),
    )
    gradient_checkpointing: bool = option(
        "recompute blocks in the backward pass, which saves much memory", default=True, node=NodeInput(26)
    )
    offload_checkpoints: bool = option(
        "keep the activations saved by gradient checkpointing in main memory", default=False, node=NodeInput(27)
    )
    offload_weights: bool = option(
        "keep frozen weights in main memory and fetch them block by block", default=False, node=NodeInput(28)
    )
    compile: bool = option(
        "compile the blocks with torch.compile; needs Triton for a GPU, a C++ compiler for a CPU", default=False
    )
    attention: Backend = option(
        "PyTorch's attention: auto, the one that it finds best, or flash, efficient, cudnn or math", default="auto"
    )
    swap_blocks: int = option(
        "blocks whose frozen weights are kept in main memory; the next one is fetched while one computes",
        default=0,
        ge=0,
    )
    seed: int = option(
        "seed of all random numbers",
        default=0,
        ge=0,
        node=NodeInput(29, "training_seed", max=0xFFFFFFFF),  # not "seed": the page randomises that at every run
    )
    device: str = option("such as cuda or cpu; by default the GPU if there is one", default="")

    def __post_init__(self) -> None:
        check_values("train", self)
        if self.warmup > self.steps:
            raise ValueError(f"train.warmup is {self.warmup}; use 0 to {self.steps} (train.steps)")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"train.betas is {list(self.betas)}; use two numbers from 0 to below 1")
        self._check_optimizer()
        try:
            check_range(self.noise_range)
        except ValueError as error:
            raise ValueError(f"train.{error}") from error
        if self.p_own_history and not self.p_history:
            raise ValueError("train.p_own_history is set, but there is no history; set train.p_history, such as 0.5")
        try:
            torch.device(self.device or "cpu")
        except RuntimeError as error:
            raise ValueError(f'train.device is "{self.device}"; use cuda, cuda:1, cpu or mps') from error
        if self.offload_checkpoints and not self.gradient_checkpointing:
            raise ValueError("train.offload_checkpoints needs train.gradient_checkpointing; turn it on")
        if self.offload_weights or self.swap_blocks:
            name, off = ("offload_weights", "turn it off") if self.offload_weights else ("swap_blocks", "use 0")
            if not self.gradient_checkpointing:
                raise ValueError(f"train.{name} needs train.gradient_checkpointing; turn it on")
            if self.mode == "full":
                raise ValueError(f"train.{name} is for frozen weights, but train.mode is full; {off}")

    def _check_optimizer(self) -> None:
        if self.optimizer != "prodigy" and self.lr > MAX_LR:
            raise ValueError(f"train.lr is {self.lr:g}; use {LR_FIX}")
        if self.optimizer == "prodigy" and self.lr < PRODIGY_LR[0]:
            raise ValueError(f"train.lr is {self.lr:g}, by which prodigy multiplies the rate that it finds; use 1")
        if self.optimizer == "schedulefree" and self.ema:
            raise ValueError("train.ema is set, but train.optimizer schedulefree averages the weights itself; use 0")
        optimizer_arguments(self.optimizer_args)

    @property
    def scale(self) -> float:
        return (self.alpha or self.rank) / self.rank

    def swapped_blocks(self, blocks: int) -> list[int]:
        """Which of the blocks are swapped: as far from each other as possible, which leaves time to fetch each."""
        count = blocks if self.offload_weights else self.swap_blocks
        return [(2 * index + 1) * blocks // (2 * count) for index in range(count)]


@dataclass(frozen=True)
class Config:
    model: ModelOptions
    data: DataOptions
    train: TrainOptions
    output: OutputOptions

    def __post_init__(self) -> None:
        if self.output.validate_every and not self.data.validation:
            raise ValueError("output.validate_every is set, but no clip is held out; set data.validation, such as 0.1")
        if self.train.mode == "full" and self.model.base_dtype in ("fp8", "int8"):
            raise ValueError(
                f"model.base_dtype is {self.model.base_dtype}, but train.mode is full, which freezes no layer; use auto"
            )
        if self.model.low_noise_checkpoint and self.train.noise_range != FULL_RANGE:
            raise ValueError(
                f"train.noise_range is {list(self.train.noise_range)}, but with model.low_noise_checkpoint each expert "
                f"has its own; leave it out"
            )
        for where, keyframe in self.output.keyframes():
            with naming(where):
                first_latent(parse_keyframe(keyframe)[0], 1, latent_length(self.data.longest))


SECTIONS: Mapping[str, type] = {f.name: f.type for f in fields(Config)}  # type: ignore[misc]


def option_fields() -> dict[str, Field[Any]]:
    """The dataclass field of every option by name, such as ``"train.lr"``."""
    return {f"{section}.{entry.name}": entry for section, kind in SECTIONS.items() for entry in fields(kind)}
