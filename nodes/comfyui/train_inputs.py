"""The inputs of Pusa Train LoRA for options of the training command, generated from their field metadata."""

import re
from collections.abc import Mapping
from dataclasses import Field
from typing import Any

from comfy_api.latest import io

from ...pusa_core.training.config import option_fields
from ...pusa_core.training.config_file import parse_config
from ...pusa_core.training.identity import check_options as check_same_run
from ...pusa_core.training.options import NodeInput, about, choices, node_inputs
from .schema import as_advanced

REQUIRED = 8
"""Positions below this are required inputs. ComfyUI lists those first, so a new input has to be optional."""

OWN_NAMES = {
    "data.folder": "dataset",
    "model.checkpoint": "model_name",
    "model.vae": "vae_name",
    "model.text_encoder": "text_encoder",
    "model.init_lora": "init_lora",
    "model.low_noise_checkpoint": "model_name_low",
    "model.low_noise_init_lora": "init_lora_low",
    "train.noise_range": "expert",
    "output.folder": "output_name",
    "output.name": "output_name",
    "output.sample_keyframes": "sample_image",
    "--resume goes on": "queued again, it goes on",
}
"""What the node calls options that are none of its inputs by themselves."""


def in_order(own: Mapping[int, io.Input]) -> list[io.Input]:
    """The node's own inputs, given by position, merged with those of the options.

    Raises ``ValueError`` if a position is taken twice: stored graphs keep widget values by position.
    """
    placed = dict(own)
    fields = option_fields()
    for name, option, node in node_inputs(fields):
        if node.place in placed:
            free = max(*own, *(other.place for _, _, other in node_inputs(fields))) + 1
            raise ValueError(
                f"{option} has place {node.place}, as {placed[node.place].id} has; {free} is the next free"
            )
        placed[node.place] = option_input(name, fields[option], node)
    return [placed[place] for place in sorted(placed)]


def option_input(name: str, entry: Field[Any], node: NodeInput) -> io.Input:
    """The widget of an option."""
    text = about(entry).help
    tooltip = text[0].upper() + text[1:] + "."
    common = {"default": entry.default, "tooltip": tooltip, "optional": node.place >= REQUIRED}
    if allowed := choices(entry):
        made = io.Combo.Input(name, options=list(allowed), **common)
    elif entry.type is bool:
        made = io.Boolean.Input(name, **common)
    elif entry.type is str:
        made = io.String.Input(name, **common)
    else:
        kind = io.Int if entry.type is int else io.Float
        made = kind.Input(name, **_limits(entry, node), **common)
    return made if node.basic else as_advanced(made)


def _limits(entry: Field[Any], node: NodeInput) -> dict[str, Any]:
    """Minimum, maximum and step of a number widget; the command checks the rest."""
    known = about(entry)
    number: type[int] | type[float] = int if entry.type is int else float
    step = node.step if node.step is not None else 1 if number is int else 0.01
    low = known.ge if known.ge is not None else 0 if known.gt is None else known.gt + step
    high = known.le if known.le is not None else node.max if known.lt is None else known.lt - step
    return {"min": number(low), "max": number(high), "step": number(step)}


def option_values(values: Mapping[str, Any]) -> dict[str, str]:
    """The options set by the node's inputs, as values of the command's flags."""
    inputs = node_inputs(option_fields())
    return {option: _as_text(values[name]) for name, option, _ in inputs if name in values}


def check_options(options: Mapping[str, str]) -> None:
    """Raise ``ValueError`` for options that the command will not take, by the names that they have in the node.

    They make no sense, or differ from the run of the same name that would be continued.
    """
    try:
        check_same_run(parse_config({}, options), processes=1)
    except (ValueError, OSError) as error:
        raise ValueError(in_node_words(str(error))) from error


def in_node_words(text: str) -> str:
    """A message of the command with the node's names in place of its options."""
    names = {option: name for name, option, _ in node_inputs(option_fields())} | OWN_NAMES
    pattern = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.sub(rf"(?<![\w.])({pattern})(?![\w])", lambda match: names[match[0]], text)


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
