"""Options that name what a training run reads: model files and clips."""

# ruff: noqa: RUF009 (option() returns a dataclass field, which ruff cannot know)

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict

from ..sampling.keyframes import check_size, latent_length
from .clips import area_sizes
from .excerpts import How
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
        node=NodeInput(50),
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


class SourceTable(TypedDict, total=False):
    """A table of ``data.sources``: a folder, and the options of ``[data]`` that it has values of its own for."""

    folder: str
    repeats: int
    allow_outside: bool
    width: int
    height: int
    buckets: tuple[tuple[int, int], ...]
    auto_buckets: bool
    frames: int
    lengths: tuple[int, ...]
    auto_lengths: bool
    fps: float
    excerpt: How
    excerpt_count: int
    excerpt_stride: int


TOGETHER: tuple[tuple[set[str], dict[str, Any]], ...] = (
    ({"width", "height", "buckets", "auto_buckets"}, {"buckets": (), "auto_buckets": False}),
    ({"frames", "lengths", "auto_lengths"}, {"lengths": (), "auto_lengths": False}),
)
"""Options that belong together: a folder that sets one of them has none of those of ``[data]`` on the right."""


@dataclass(frozen=True)
class DataOptions:
    folder: str = option(
        "captioned videos and pictures: clip.mp4 + clip.txt, or metadata.csv / .jsonl with file_name, text", default=""
    )
    sources: tuple[SourceTable, ...] = option(
        "several folders in place of folder: [[data.sources]], each with folder, repeats and options of its own",
        default=(),
    )
    width: int = option(
        "pixels, divisible by 16; clips are scaled to cover width x height and centre-cropped",
        default=832,
        ge=16,
        node=NodeInput(8, step=16, max=8192),
    )
    height: int = option("pixels, divisible by 16", default=480, ge=16, node=NodeInput(9, step=16, max=8192))
    frames: int = option(
        "pixel frames of each clip, 4 n + 1; shorter clips are skipped",
        default=81,
        ge=1,
        node=NodeInput(10, step=4, max=4001),
    )
    fps: float = option(
        "frames per second to resample clips to; Wan generates 16; 0: every frame as it is",
        default=16.0,
        ge=0,
        le=1000,
        node=NodeInput(11),
    )
    buckets: tuple[tuple[int, int], ...] = option(
        "several sizes, such as [[832, 480], [480, 832]]; each clip goes to the nearest aspect ratio", default=()
    )
    auto_buckets: bool = option(
        "find a size for the aspect ratio of each clip, of no more pixels than width x height",
        default=False,
        node=NodeInput(37),
    )
    lengths: tuple[int, ...] = option(
        "several lengths in place of frames, such as [17, 49, 81]; each clip goes to the longest that it has",
        default=(),
    )
    auto_lengths: bool = option(
        "take shorter clips at their own length, from 5 frames on, in place of skipping them",
        default=False,
        node=NodeInput(38),
    )
    excerpt: How = option(
        "which frames of a longer clip: head: the first; spread: excerpt_count excerpts all over it; sliding: one "
        "every excerpt_stride frames; all: one after the other",
        default="head",
        node=NodeInput(39),
    )
    excerpt_count: int = option("excerpts of a clip, with spread", default=4, ge=1, node=NodeInput(40))
    excerpt_stride: int = option(
        "frames from the start of an excerpt to that of the next, with sliding; 0: half an excerpt",
        default=0,
        ge=0,
        node=NodeInput(41),
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
        self._check_folder()
        if self.auto_buckets and self.buckets:
            raise ValueError("data.buckets lists the sizes and data.auto_buckets finds them; leave one out")
        if self.auto_lengths and self.lengths:
            raise ValueError("data.lengths lists the lengths and data.auto_lengths finds them; leave one out")
        for size in self.buckets or ((self.width, self.height),):
            if len(size) != 2:
                raise ValueError(f"data.buckets holds {list(size)}; a size is [width, height]")
            with naming("data.buckets" if self.buckets else "data.width, data.height"):
                check_size(*size)
        for frames in self.all_lengths:
            with naming("data.lengths" if self.lengths else "data.frames"):
                latent_length(frames)
        check_values("data", self)  # after the sizes, whose own messages say more
        if self.validation > 1 and self.validation % 1:
            raise ValueError(f"data.validation is {self.validation}; use a share below 1 or a whole number of clips")
        _ = self.folders

    def _check_folder(self) -> None:
        if self.folder and self.sources:
            raise ValueError("data.folder and data.sources are both set; list all folders in data.sources")
        if not self.folder and not self.sources:
            raise ValueError(
                "data.folder is not set; it is a folder of captioned videos (or list several as [[data.sources]])"
            )
        if self.folder and not exists(Path(self.folder), Path.is_dir):
            raise FileNotFoundError(f"data.folder: no such folder: {self.folder}")

    @cached_property
    def folders(self) -> tuple["Source", ...]:
        """Every folder with its options. Raises ``ValueError`` for a table that makes no sense."""
        own = {entry.name: getattr(self, entry.name) for entry in fields(DataOptions)}
        if not self.sources:
            return (Source(**own),) if type(self) is DataOptions else ()
        found = []
        for number, table in enumerate(self.sources):
            with naming(f"data.sources[{number}]"):
                if not table.get("folder"):
                    raise ValueError(f"{dict(table)} names no folder")
                found.append(Source(**own | {"sources": ()} | _replaced(table)))
        return tuple(found)

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        if self.auto_buckets:
            return ((self.width, self.height), *area_sizes(self.width * self.height))
        return self.buckets or ((self.width, self.height),)

    @property
    def all_lengths(self) -> tuple[int, ...]:
        """The lengths that are named by the options."""
        return self.lengths or (self.frames,)

    @property
    def longest(self) -> int:
        return max(self.all_lengths)

    @property
    def counted_rates(self) -> tuple[float, ...]:
        """The frame rate at which the frames of clips have to be counted to find their excerpts; none if not at all."""
        return (self.fps,) if self.auto_lengths or self.lengths or self.excerpt != "head" else ()

    @property
    def cache_folder(self) -> Path:
        return Path(self.cache or Path(self.folder or self.sources[0]["folder"]) / ".pusa_cache")


@dataclass(frozen=True)
class Source(DataOptions):
    """A folder of clips with the options that hold for it."""

    repeats: int = option("how often an epoch has its clips", default=1, ge=1)


def _replaced(table: SourceTable) -> dict[str, Any]:
    off: dict[str, Any] = {}
    for together, default in TOGETHER:
        off |= default if together & table.keys() else {}
    return off | dict(table)
