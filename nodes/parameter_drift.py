"""Pusa Parameter Drift: which parameters a LoRA or a fine-tune has changed, and by how much."""

import folder_paths
from comfy_api.latest import io, ui

from ..pusa_core import load_lora
from ..pusa_core.analysis.drift import by_block, by_component, checkpoint_drift, lora_drift, save_table
from ..pusa_core.analysis.pictures import draw_drift
from ..pusa_core.weights.load import LORA_STRENGTH
from .comfyui.attention_recorder import show_progress
from .comfyui.images import as_image, free_stem
from .comfyui.inputs import check_number
from .comfyui.schema import schema

NONE = "none"


class PusaParameterDrift(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        models = folder_paths.get_filename_list("diffusion_models")
        return schema(
            node_id="PusaParameterDrift",
            display_name="Pusa Parameter Drift",
            category="Pusa/analysis",
            search_aliases=["compare models", "compare checkpoints", "LoRA analysis"],
            description="Shows which parameters a LoRA or a fine-tune has changed, and by how much.",
            inputs=[
                io.Combo.Input("model_name", options=models, tooltip="The original Wan text-to-video model."),
                io.Combo.Input(
                    "lora_name",
                    options=[NONE, *folder_paths.get_filename_list("loras")],
                    default=NONE,
                    tooltip="The LoRA applied to it; none to compare with another model.",
                ),
                io.Float.Input(
                    "lora_strength",
                    default=LORA_STRENGTH,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="The strength at which the LoRA is applied.",
                ),
                io.Combo.Input(
                    "other_model_name",
                    options=[NONE, *models],
                    default=NONE,
                    tooltip="The model to compare with; none if a LoRA is selected.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="pusa/parameter_drift",
                    tooltip="Prefix of the .csv file with the values, in the output folder.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="chart", tooltip="Relative change by component, by block and by parameter."
                ),
                io.String.Output(display_name="report", tooltip="The change in words, and where the numbers are."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, model_name: str, lora_name: str, lora_strength: float, other_model_name: str, filename_prefix: str
    ) -> io.NodeOutput:
        check_number(lora_strength, "lora_strength", -10, 10)
        if (lora_name == NONE) == (other_model_name == NONE):
            raise ValueError(
                f'lora_name is "{lora_name}" and other_model_name "{other_model_name}"; choose one of the two, and '
                f"leave the other at {NONE}"
            )
        base = folder_paths.get_full_path_or_raise("diffusion_models", model_name)
        if lora_name == NONE:
            other = folder_paths.get_full_path_or_raise("diffusion_models", other_model_name)
            title, changes = f"{model_name} to {other_model_name}", checkpoint_drift(base, other, show_progress())
        else:
            lora = load_lora(folder_paths.get_full_path_or_raise("loras", lora_name))
            title = f"{lora_name} at {lora_strength:g} on {model_name}"
            changes = lora_drift(base, lora, lora_strength, show_progress())
        stem = free_stem(filename_prefix)
        save_table(changes, stem.with_name(stem.name + ".csv"))
        image = as_image(draw_drift(changes, title, lora=lora_name != NONE))
        parts = [", ".join(f"{name} {value:.2%}" for name, value in of(changes)) for of in (by_component, by_block)]
        report = "\n".join([title, *parts, f"numbers: {stem}.csv"])
        return io.NodeOutput(image, report, ui=ui.PreviewImage(image, cls=cls))
