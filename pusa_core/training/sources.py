"""Options that name what a training run reads: model files and clips."""

# ruff: noqa: RUF009 (option() returns a dataclass field, which ruff cannot know)

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..sampling.keyframes import check_size, latent_length
from .files import exists
from .options import NodeInput, check_values, option

Dtype = Literal["bf16", "fp32"]
BaseDtype = Literal["auto", "full", "fp8", "int8"]


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Prefix the message of a ``ValueError`` with the option's name."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


@dataclass(frozen=True)
class ModelOptions:
    checkpoint: tuple[str, ...] = option("Wan text-to-video weights: a file, a shard index, or a list of shards")
    vae: str = option("Wan2.1 VAE file")
    text_encoder: str = option('UMT5-XXL file or folder, or "demo" for the demo text encoder')
    init_lora: str = option("LoRA to start from, with a rank of at most train.rank", default="")
    low_noise_checkpoint: tuple[str, ...] = option(
        "Wan2.2's low-noise expert, to train a LoRA for each expert in turns; checkpoint is the high-noise one",
        default=(),
    )
    low_noise_init_lora: str = option("the same for low_noise_checkpoint", default="")
    dtype: Dtype = option(
        "dtype of the network, bf16 or fp32; trained weights are always fp32",
        default="bf16",
        node=NodeInput(25, "precision"),
    )
    base_dtype: BaseDtype = option(
        "frozen layers of the blocks: auto, fp8 where the file has it; full, all in dtype; fp8 or int8, half of bf16",
        default="auto",
    )

    def __post_init__(self) -> None:
        check_values("model", self)
        if not self.checkpoint or not all(self.checkpoint):
            raise ValueError("model.checkpoint is empty; name a Wan text-to-video checkpoint")
        paths = [("model.checkpoint", shard) for shard in self.checkpoint]
        paths += [("model.low_noise_checkpoint", shard) for shard in self.low_noise_checkpoint]
        others = ("vae", "text_encoder", "init_lora", "low_noise_init_lora")
        paths += [(f"model.{name}", getattr(self, name)) for name in others]
        for name, path in paths:
            if path and (name, path) != ("model.text_encoder", "demo") and not exists(Path(path)):
                raise FileNotFoundError(f"{name}: no such file: {path}")
        if self.low_noise_init_lora and not self.low_noise_checkpoint:
            raise ValueError("model.low_noise_init_lora is set, but model.low_noise_checkpoint is not; name that too")
        if not self.vae or not self.text_encoder:
            raise ValueError('model.vae or model.text_encoder is empty; name a file ("demo" for the demo text encoder)')


@dataclass(frozen=True)
class DataOptions:
    folder: str = option("captioned videos: clip.mp4 + clip.txt, or metadata.csv / .jsonl with file_name, text")
    width: int = option(
        "pixels, divisible by 16; clips are scaled to cover width x height and centre-cropped",
        default=832,
        ge=16,
        node=NodeInput(8, step=16, max=8192),
    )
    height: int = option("pixels, divisible by 16", default=480, ge=16, node=NodeInput(9, step=16, max=8192))
    frames: int = option(
        "pixel frames from the start of each clip, 4 n + 1; shorter clips are skipped",
        default=81,
        ge=1,
        node=NodeInput(10, step=4, max=4001),
    )
    fps: float = option(
        "frames per second to resample clips to; Wan generates 16; 0: every frame as it is",
        default=0.0,
        ge=0,
        le=1000,
        node=NodeInput(11),
    )
    buckets: tuple[tuple[int, int], ...] = option(
        "several sizes, such as [[832, 480], [480, 832]]; each clip goes to the nearest aspect ratio", default=()
    )
    allow_outside: bool = option("allow metadata to name files outside data.folder", default=False)
    cache: str = option("folder of encoded clips; by default .pusa_cache in the folder of clips", default="")
    validation: float = option(
        "clips held out for validation: a count, or a fraction below 1", default=0.0, ge=0, node=NodeInput(30)
    )
    caption_dropout: float = option(
        "probability of training without the caption, for guidance", default=0.1, ge=0, le=1, node=NodeInput(20)
    )

    def __post_init__(self) -> None:
        if not exists(Path(self.folder), Path.is_dir):
            raise FileNotFoundError(f"data.folder: no such folder: {self.folder}")
        for size in self.sizes:
            if len(size) != 2:
                raise ValueError(f"data.buckets holds {list(size)}; a size is [width, height]")
            with naming("data.buckets" if self.buckets else "data.width, data.height"):
                check_size(*size)
        with naming("data.frames"):
            latent_length(self.frames)
        check_values("data", self)  # after the sizes, whose own messages say more
        if self.validation > 1 and self.validation % 1:
            raise ValueError(f"data.validation is {self.validation}; use a share below 1 or a whole number of clips")

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        return self.buckets or ((self.width, self.height),)

    @property
    def cache_folder(self) -> Path:
        return Path(self.cache) if self.cache else Path(self.folder) / ".pusa_cache"
