"""The schema of a node with what users see of it: a label for every input, folded inputs, and names to find it by."""

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from comfy_api.latest import io

LABELS = {
    "base_dtype": "Type of frozen weights",
    "cfg": "CFG",
    "ema": "EMA",
    "fps": "FPS",
    "init_lora": "Initial LoRA",
    "init_lora_low": "Initial LoRA for low noise",
    "given_frames_refresh": "Refresh of given frames",
    "learning_rate": "Learning rate",
    "lora_name": "LoRA",
    "lora_strength": "LoRA strength",
    "model_low": "Model for low noise",
    "model_name": "Model",
    "model_name_low": "Model for low noise",
    "other_model_name": "Other model",
    "output_name": "Name of the LoRA",
    "p_async": "Independent noise levels",
    "p_given": "Noise levels below the expert's",
    "p_history": "Samples with a history",
    "p_own_history": "Histories of its own",
    "p_region": "Samples with regions",
    "position_counts": "Position counts",
    "switch": "Switch at noise level",
    "vae": "VAE",
    "vae_name": "VAE",
    "wandb": "Weights & Biases",
    "weight_dtype": "Weight type",
}
"""Labels of inputs that are more than their id with spaces."""


def label(name: str) -> str:
    return LABELS.get(name) or name.replace("_", " ").capitalize()


def as_advanced(entry: io.Input) -> io.Input:
    """Fold an input away until the user asks for it; older versions have no argument for that."""
    entry.extra_dict = {**entry.extra_dict, "advanced": True}
    return entry


def schema(
    *,
    inputs: Sequence[io.Input],
    search_aliases: Sequence[str] = (),
    advanced: Collection[str] = (),
    has_intermediate_output: bool = False,
    **settings: Any,
) -> io.Schema:
    """An ``io.Schema`` whose inputs are labelled; those named in ``advanced`` are folded.

    ``search_aliases`` are words by which the node is found, ``has_intermediate_output`` is for a node that shows a
    picture and passes its result on: a graph whose result is kept from another one shows the picture too. Older
    versions have no such fields; they search by name alone, and show the picture when the node runs.
    """
    for entry in inputs:
        entry.display_name = entry.display_name or label(entry.id)
        if entry.id in advanced:
            as_advanced(entry)
    newer = {"search_aliases": list(search_aliases), "has_intermediate_output": has_intermediate_output}
    known = {field.name for field in fields(io.Schema)}
    settings |= {name: value for name, value in newer.items() if name in known}
    return io.Schema(inputs=list(inputs), **settings)
