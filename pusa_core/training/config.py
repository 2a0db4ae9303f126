"""What a training run is told: four sections of options, checked before anything is loaded."""

# ruff: noqa: RUF009 (option() makes a field, which ruff cannot see)

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from ..sampling.keyframes import check_size, first_latent, latent_length
from ..sampling.pipeline import parse_keyframe
from .objective import Weighting

Dtype = Literal["bf16", "fp32"]
Mode = Literal["lora", "full"]
Schedule = Literal["constant", "cosine", "linear"]
OptimizerName = Literal["adamw", "adamw8bit"]

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
MAX_LR = 0.1  # Adam moves every weight by about the learning rate in each step; weights are about 0.02


def option(text: str, default: Any = MISSING) -> Any:
    """A field with its help text."""
    return field(metadata={"help": text}) if default is MISSING else field(default=default, metadata={"help": text})


def one_of(name: str, value: str, allowed: Any) -> None:
    if value not in get_args(allowed):
        raise ValueError(f'{name} is "{value}"; choose one of {", ".join(get_args(allowed))}')


def in_range(name: str, value: float, low: float, high: float = math.inf, why: str = "") -> None:
    if not low <= value <= high:
        limits = f"{low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
        raise ValueError(f"{name} is {value:g}; use {limits}{why}")


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the option's name before what is wrong with its value."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


@dataclass(frozen=True)
class ModelOptions:
    checkpoint: tuple[str, ...] = option("Wan text-to-video weights: a file, an index, or a list of shards")
    vae: str = option("Wan2.1 VAE file")
    text_encoder: str = option('UMT5-XXL file or folder, or "demo" for the demo model\'s words')
    init_lora: str = option("a LoRA to go on from", "")
    dtype: Dtype = option("bf16 or fp32: of the network; trained weights are always fp32", "bf16")

    def __post_init__(self) -> None:
        one_of("model.dtype", self.dtype, Dtype)
        if not self.checkpoint or not all(self.checkpoint):
            raise ValueError("model.checkpoint is empty; name a Wan text-to-video checkpoint")
        paths = [("model.checkpoint", shard) for shard in self.checkpoint]
        paths += [(f"model.{name}", getattr(self, name)) for name in ("vae", "text_encoder", "init_lora")]
        for name, path in paths:
            if path and (name, path) != ("model.text_encoder", "demo") and not Path(path).exists():
                raise FileNotFoundError(f"{name}: no such file: {path}")
        if not self.vae or not self.text_encoder:
            raise ValueError('model.vae or model.text_encoder is empty; name a file ("demo" for the demo text encoder)')


@dataclass(frozen=True)
class DataOptions:
    folder: str = option("videos with captions: clip.mp4 + clip.txt, or metadata.csv / .jsonl with file_name, text")
    width: int = option("pixels, divisible by 16", 832)
    height: int = option("pixels, divisible by 16", 480)
    frames: int = option("pixel frames of a clip, 4 n + 1", 81)
    fps: float = option("frames per second to take from a video; 0: every frame as it is", 0.0)
    buckets: tuple[tuple[int, int], ...] = option("sizes [[w, h], ...] instead of the one; nearest shape wins", ())
    cache: str = option("folder of encoded clips (default: .pusa_cache in the folder of clips)", "")
    validation: float = option("clips held out: a count, or a share below 1", 0.0)
    caption_dropout: float = option("probability of training without the caption, for guidance", 0.1)

    def __post_init__(self) -> None:
        if not Path(self.folder).is_dir():
            raise FileNotFoundError(f"data.folder: no such folder: {self.folder}")
        for size in self.sizes:
            if len(size) != 2:
                raise ValueError(f"data.buckets holds {list(size)}; a size is [width, height]")
            with naming("data.buckets" if self.buckets else "data.width, data.height"):
                check_size(*size)
        with naming("data.frames"):
            latent_length(self.frames)
        in_range("data.fps", self.fps, 0, 1000)
        in_range("data.caption_dropout", self.caption_dropout, 0, 1)
        in_range("data.validation", self.validation, 0)
        if self.validation > 1 and self.validation % 1:
            raise ValueError(f"data.validation is {self.validation}; use a share below 1 or a whole number of clips")

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        return self.buckets or ((self.width, self.height),)

    @property
    def cache_folder(self) -> Path:
        return Path(self.cache) if self.cache else Path(self.folder) / ".pusa_cache"


@dataclass(frozen=True)
class TrainOptions:
    mode: Mode = option("lora, or full for all weights", "lora")
    rank: int = option("of the LoRA", 64)
    alpha: float = option("the LoRA is scaled by alpha / rank; 0: as the rank, scale 1", 0.0)
    dropout: float = option("of the LoRA's input", 0.0)
    steps: int = option("optimiser steps", 1000)
    batch: int = option("clips in a step, for each process", 1)
    accumulate: int = option("batches summed to one step", 1)
    lr: float = option("learning rate", 1e-4)
    warmup: int = option("steps of linear warm-up", 0)
    schedule: Schedule = option("constant, cosine or linear, the last two down to 0 at the last step", "constant")
    optimizer: OptimizerName = option("adamw, or adamw8bit (needs bitsandbytes and an NVIDIA GPU)", "adamw")
    weight_decay: float = option("of AdamW", 0.01)
    betas: tuple[float, float] = option("of AdamW", (0.9, 0.999))
    clip: float = option("largest norm of the gradient; 0: no clipping", 1.0)
    p_async: float = option("probability that every frame gets its own noise level", 1.0)
    shift: float = option("of the noise levels: 5 as the released weights, 1 as the paper's text", 5.0)
    weighting: Weighting = option("none, bell (each frame by its own level) or reference", "none")
    ema: float = option("decay of an exponential moving average of the trained weights, such as 0.99; 0: none", 0.0)
    gradient_checkpointing: bool = option("recompute blocks in the backward pass: much less memory", True)
    offload_checkpoints: bool = option("keep what checkpointing saves in main memory", False)
    offload_weights: bool = option("fetch each block's frozen weights from main memory when they are needed", False)
    seed: int = option("of everything random", 0)
    device: str = option("such as cuda or cpu (default: a GPU if there is one)", "")

    def __post_init__(self) -> None:
        for name, allowed in (("mode", Mode), ("schedule", Schedule), ("optimizer", OptimizerName)):
            one_of(f"train.{name}", getattr(self, name), allowed)
        one_of("train.weighting", self.weighting, Weighting)
        if not 0 < self.lr <= MAX_LR:
            raise ValueError(f"train.lr is {self.lr:g}; use 1e-6 to 1e-2 (1e-5 for rank 512 as in the paper)")
        for name in ("rank", "steps", "batch", "accumulate"):
            in_range(f"train.{name}", getattr(self, name), 1)
        for name in ("alpha", "weight_decay", "clip", "seed"):
            in_range(f"train.{name}", getattr(self, name), 0)
        in_range("train.warmup", self.warmup, 0, self.steps, " (train.steps)")
        in_range("train.p_async", self.p_async, 0, 1)
        if not 0 <= self.dropout < 1 or not 0 <= self.ema < 1:
            raise ValueError(f"train.dropout is {self.dropout:g} and train.ema {self.ema:g}; use 0 to below 1")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"train.betas is {list(self.betas)}; use two numbers from 0 to below 1")
        if not 0 < self.shift < math.inf:
            raise ValueError(f"train.shift is {self.shift:g}; use 5 (as released) or 1 (as in the paper)")
        try:
            torch.device(self.device or "cpu")
        except RuntimeError as error:
            raise ValueError(f'train.device is "{self.device}"; use cuda, cuda:1, cpu or mps') from error
        if self.offload_checkpoints and not self.gradient_checkpointing:
            raise ValueError("train.offload_checkpoints needs train.gradient_checkpointing; turn it on")
        if self.offload_weights and not self.gradient_checkpointing:
            raise ValueError("train.offload_weights needs train.gradient_checkpointing; turn it on")
        if self.offload_weights and self.mode == "full":
            raise ValueError("train.offload_weights is for frozen weights, but train.mode is full; turn it off")

    @property
    def scale(self) -> float:
        return (self.alpha or self.rank) / self.rank


@dataclass(frozen=True)
class OutputOptions:
    folder: str = option("where the run is kept")
    name: str = option("file name of the result, without .safetensors", "pusa_lora")
    save_every: int = option("steps between checkpoints; 0: only at the end", 100)
    keep: int = option("checkpoints that are kept, the newest", 2)
    validate_every: int = option("steps between validations; 0: none", 0)
    sample_every: int = option("steps between sample videos; 0: none", 0)
    sample_prompt: str = option("caption of the sample video", "")
    sample_keyframes: tuple[str, ...] = option('given frames of the sample, ["POSITION=FILE[:NOISE]", ...]', ())
    sample_steps: int = option("sampling steps of the sample", 10)
    sample_cfg: float = option("guidance of the sample", 1.0)
    lora_strength: float = option("of the LoRA in samples", 1.4)

    def __post_init__(self) -> None:
        if not self.folder:
            raise ValueError("output.folder is empty; name a folder for the run")
        if not self.name or Path(self.name).name != self.name:
            raise ValueError(f'output.name is "{self.name}"; use a file name without folders')
        for name in ("save_every", "validate_every", "sample_every"):
            in_range(f"output.{name}", getattr(self, name), 0)
        for name in ("keep", "sample_steps"):
            in_range(f"output.{name}", getattr(self, name), 1)
        for text in self.sample_keyframes:
            with naming("output.sample_keyframes"):
                _, path, _ = parse_keyframe(text)
            if not path.is_file():
                raise FileNotFoundError(f"output.sample_keyframes: no such file: {path}")


@dataclass(frozen=True)
class Config:
    model: ModelOptions
    data: DataOptions
    train: TrainOptions
    output: OutputOptions

    def __post_init__(self) -> None:
        if self.output.validate_every and not self.data.validation:
            raise ValueError("output.validate_every is set, but no clip is held out; set data.validation, such as 0.1")
        for text in self.output.sample_keyframes:
            with naming("output.sample_keyframes"):
                first_latent(parse_keyframe(text)[0], 1, latent_length(self.data.frames))


SECTIONS: Mapping[str, type] = {f.name: f.type for f in fields(Config)}  # type: ignore[misc]
