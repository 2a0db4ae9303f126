"""Pusa Load: a Wan text-to-video checkpoint and a Pusa LoRA -> MODEL."""

import logging
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io

from ..pusa_core import load_lora
from ..pusa_core.weights.demo_files import DIT
from ..pusa_core.weights.load import LORA_STRENGTH
from .comfyui.demo_preview import preview_in_demo_colours
from .comfyui.gguf import SUFFIX, gguf_names, load_gguf
from .comfyui.inputs import check_number
from .comfyui.model import FAMILY, add_lora, load_wan
from .comfyui.noise_levels import read_noise_levels
from .comfyui.notices import show, warn
from .comfyui.schema import schema

log = logging.getLogger(__name__)

NO_LORA = "none"
WITHOUT_LORA = (
    "without a Pusa LoRA given frames are hardly followed: choose one in lora_name, or add it with a LoRA node, unless "
    "this checkpoint was made for noise levels per frame"
)
WEIGHT_DTYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}


def made_for_pusa(model_name: str) -> bool:
    """Whether a checkpoint's name says that a Pusa LoRA is merged into it, or that it was trained like one."""
    name = Path(model_name).name
    return "pusa" in name.lower() and name != DIT.name  # the demo's base is a plain text-to-video model


def load(model_name: str, weight_dtype: str) -> Any:
    """A file of ``models/diffusion_models`` as a MODEL with our DiT."""
    if not model_name.lower().endswith(SUFFIX):
        path = folder_paths.get_full_path_or_raise("diffusion_models", model_name)
        return load_wan(path, dict(WEIGHT_DTYPES[weight_dtype]))
    if WEIGHT_DTYPES[weight_dtype]:
        raise ValueError(
            f"weight_dtype is {weight_dtype}, but {model_name} is a GGUF file, whose weights stay as they are in "
            f"memory; set it to default"
        )
    return load_gguf(model_name)


class PusaLoad(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PusaLoad",
            display_name="Pusa Load",
            category="Pusa",
            search_aliases=["load Pusa", "Pusa LoRA", "load diffusion model", "UNET loader", "Wan model", "checkpoint"],
            advanced=["weight_dtype"],
            description="Loads a Wan text-to-video model with one noise level per latent frame, and a Pusa LoRA.",
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=[*folder_paths.get_filename_list("diffusion_models"), *gguf_names()],
                    tooltip="A Wan2.1 or Wan2.2-14B text-to-video model, from models/diffusion_models; .gguf files "
                    "with the pack ComfyUI-GGUF.",
                ),
                io.Combo.Input(
                    "lora_name",
                    options=[NO_LORA, *folder_paths.get_filename_list("loras")],
                    default=NO_LORA,
                    tooltip="The Pusa LoRA for this model, from models/loras.",
                ),
                io.Float.Input(
                    "lora_strength",
                    default=LORA_STRENGTH,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="Higher values follow given frames more closely; lower ones give more motion.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    optional=True,
                    tooltip="Dtype of the weights in memory; fp8 halves it.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="To Pusa Sampler, or to any node that takes a MODEL, such as a LoRA."
                ),
                io.String.Output(display_name="report", tooltip="What was found in the files."),
            ],
        )

    @classmethod
    def execute(
        cls, model_name: str, lora_name: str, lora_strength: float, weight_dtype: str = "default"
    ) -> io.NodeOutput:
        if weight_dtype not in WEIGHT_DTYPES:
            raise ValueError(f'weight_dtype is "{weight_dtype}"; choose one of {", ".join(WEIGHT_DTYPES)}')
        check_number(lora_strength, "lora_strength", -10, 10)
        model = load(model_name, weight_dtype)
        if Path(model_name).name == DIT.name:
            preview_in_demo_colours(model)
        report = f"{model_name}: {model.model.diffusion_model.report}"
        family = model.get_attachment(FAMILY)
        if family is not None:
            show(family.describe())
        if lora_name != NO_LORA:
            lora = load_lora(folder_paths.get_full_path_or_raise("loras", lora_name))
            model, match = add_lora(model, lora, lora_strength)
            show(match.describe())
            report += f"\n{lora_name}: {lora.describe()}; {match.describe()}; strength {lora_strength:g}"
            if family is not None:
                warn(f"{model_name} is {family.name}, which needs no Pusa LoRA; set lora_name to {NO_LORA}")
        elif family is None and not made_for_pusa(model_name):
            report += f"\n{WITHOUT_LORA}"
            log.warning("%s: %s", model_name, WITHOUT_LORA)
            show(WITHOUT_LORA)
        log.info("%s", report)
        return io.NodeOutput(read_noise_levels(model), report)
