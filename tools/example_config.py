"""Writes ``configs/train.toml``, the paper's recipe among all options: ``python -m tools.example_config``.

Names, defaults and help texts are those of the options; only what the recipe adds stands here.
"""

import json
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any

from pusa_core.training.config import SECTIONS, option_fields
from pusa_core.training.options import about

PATH = Path(__file__).parents[1] / "configs" / "train.toml"
COLUMN = 26  # where comments start
HEAD = """\
# A Pusa LoRA with the settings of the paper's table 2: rank 512, 900 steps of 8 clips, made for 8 GPUs of 80 GB.
#
#   accelerate launch --config_file configs/accelerate_deepspeed_zero2.yaml \\
#       -m pusa_core.training --config configs/train.toml
#
# Put your own paths in. Any option can also be given as a flag: --train.steps 100. Options that stand behind "# " are
# at their default. docs/training.md explains the rest. Written by python -m tools.example_config.
"""
RECIPE: dict[str, Any] = {
    "model.checkpoint": ["models/wan2.1_t2v_14B_bf16.safetensors"],
    "model.vae": "models/wan_2.1_vae.safetensors",
    "model.text_encoder": "models/umt5_xxl_fp16.safetensors",
    "data.folder": "clips",
    "data.validation": 16,
    "data.caption_dropout": 0.0,
    "train.rank": 512,
    "train.steps": 900,
    "train.lr": 1e-5,
    "train.clip": 0.0,
    "train.weighting": "reference",
    "train.offload_checkpoints": True,
    "output.folder": "runs/pusa",
    "output.save_every": 150,
    "output.validate_every": 50,
    "output.sample_every": 150,
    "output.sample_prompt": "A cat walks through tall grass",
    "output.sample_keyframes": ["0=cat.png"],
}
COMMENTS = {
    "model.text_encoder": "read only while captions are encoded",
    "data.validation": "clips held out, to see over-training; the reference holds none out",
    "data.caption_dropout": "the reference never drops a caption",
    "train.rank": "the largest that fitted 8 GPUs of 80 GB, say the paper's authors",
    "train.alpha": "0: as the rank, so that the LoRA at strength 1 is what was trained",
    "train.batch": "of each GPU: 8 GPUs make the paper's 8",
    "train.accumulate": "with one GPU, 8 makes the same batch, in eight times the time",
    "train.clip": "the reference does not clip gradients",
    "train.shift": "as the public training code; the paper's text says 1",
    "train.weighting": 'as the public training code; the paper\'s text says "none"',
    "output.sample_keyframes": "the picture the sample video starts from; POSITION=FILE[:NOISE]",
    "output.lora_strength": "the paper's alpha for the LoRA of 900 steps",
}
"""Where the recipe has more to say than the option's help."""


def document() -> str:
    options, parts = option_fields(), [HEAD]
    for section in SECTIONS:
        names = [name for name in options if name.startswith(f"{section}.")]
        parts.append("\n".join([f"[{section}]", *(_line(name, options[name]) for name in names), ""]))
    return "\n".join(parts)


def _line(name: str, entry: Field[Any]) -> str:
    value = RECIPE.get(name, entry.default)
    if value is MISSING:
        raise ValueError(f"{name} has no default; give it a value in RECIPE")
    shown = f"{entry.name} = {json.dumps(value)}"
    if name not in RECIPE:
        shown = f"# {shown}"
    return f"{shown:<{COLUMN - 1}} # {COMMENTS.get(name, about(entry).help)}"


if __name__ == "__main__":
    PATH.write_text(document(), encoding="utf-8")
