"""The options of the training command that Pusa Train LoRA offers, as inputs of the node and as flags."""

import re
from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any, get_args

from comfy_api.latest import io

from ...pusa_core.training.config import MAX_LR, SECTIONS
from ...pusa_core.training.config_file import parse_config

BASIC = {"steps": "train.steps", "rank": "train.rank", "learning_rate": "train.lr"}
ADVANCED = {
    "width": "data.width",
    "height": "data.height",
    "frames": "data.frames",
    "fps": "data.fps",
    "batch": "train.batch",
    "accumulate": "train.accumulate",
    "alpha": "train.alpha",
    "dropout": "train.dropout",
    "warmup": "train.warmup",
    "schedule": "train.schedule",
    "optimizer": "train.optimizer",
    "weight_decay": "train.weight_decay",
    "caption_dropout": "data.caption_dropout",
    "p_async": "train.p_async",
    "shift": "train.shift",
    "weighting": "train.weighting",
    "ema": "train.ema",
    "precision": "model.dtype",
    "gradient_checkpointing": "train.gradient_checkpointing",
    "offload_checkpoints": "train.offload_checkpoints",
    "offload_weights": "train.offload_weights",
    "training_seed": "train.seed",  # not "seed": pages draw a new one of those after every run
    "validation": "data.validation",
    "validate_every": "output.validate_every",
    "save_every": "output.save_every",
    "sample_every": "output.sample_every",
    "sample_prompt": "output.sample_prompt",
}
"""Input of the node -> option of the command. Graphs rely on the names and their order."""

OPTIONS = BASIC | ADVANCED

MANY = 1_000_000
LIMITS: dict[str, tuple[float, float, float]] = {
    "steps": (1, MANY, 1),
    "rank": (1, 4096, 1),
    "learning_rate": (1e-7, MAX_LR, 1e-7),
    "width": (16, 8192, 16),
    "height": (16, 8192, 16),
    "frames": (1, 4001, 4),
    "fps": (0, 1000, 0.01),
    "batch": (1, 1024, 1),
    "accumulate": (1, 1024, 1),
    "alpha": (0, MANY, 0.01),
    "dropout": (0, 0.99, 0.01),
    "weight_decay": (0, 10, 0.001),
    "caption_dropout": (0, 1, 0.01),
    "p_async": (0, 1, 0.01),
    "shift": (0.01, 100, 0.01),
    "ema": (0, 0.99999, 0.00001),
    "training_seed": (0, 0xFFFFFFFF, 1),
    "validation": (0, MANY, 0.01),
}
"""Smallest and largest value and step of the page's widgets; the command checks what is left to check."""


def option_field(option: str) -> Field:
    """The command's definition of ``"section.name"``."""
    section, _, name = option.partition(".")
    return next(entry for entry in fields(SECTIONS[section]) if entry.name == name)


def basic_inputs() -> list[io.Input]:
    return [_input(name, option) for name, option in BASIC.items()]


def advanced_inputs() -> list[io.Input]:
    return [as_advanced(_input(name, option, optional=True)) for name, option in ADVANCED.items()]


def as_advanced(entry: io.Input) -> io.Input:
    """Keep an input out of sight until the user asks for it; older versions have no argument for that."""
    entry.extra_dict = {**entry.extra_dict, "advanced": True}
    return entry


def _input(name: str, option: str, optional: bool = False) -> io.Input:
    spec = option_field(option)
    text = spec.metadata["help"]
    common = {"default": spec.default, "tooltip": text[0].upper() + text[1:] + ".", "optional": optional}
    if choices := get_args(spec.type):
        return io.Combo.Input(name, options=list(choices), **common)
    if spec.type is bool:
        return io.Boolean.Input(name, **common)
    if spec.type is str:
        return io.String.Input(name, **common)
    low, high, step = LIMITS.get(name, (0, MANY, 1))
    kind = io.Int if spec.type is int else io.Float
    return kind.Input(name, min=spec.type(low), max=spec.type(high), step=spec.type(step), **common)


def check_options(options: Mapping[str, str]) -> None:
    """Raise ``ValueError`` for options that the command will not take, by the names that they have in the node."""
    try:
        parse_config({}, options)
    except (ValueError, OSError) as error:
        names = {option: name for name, option in OPTIONS.items()}
        pattern = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        raise ValueError(re.sub(rf"\b({pattern})\b", lambda match: names[match[0]], str(error))) from error


def as_text(value: Any) -> str:
    """A value as the command's flags have it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
