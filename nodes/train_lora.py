"""Pusa Train LoRA: a folder of captioned clips -> a LoRA that the next node can load."""

import json
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui
from torch import Tensor

from .comfyui.progress import TrainingProgress
from .comfyui.schema import schema
from .comfyui.train_files import (
    check_target,
    dataset_folder,
    fingerprint,
    load_picture,
    lora_paths,
    model_file,
    name_problem,
    register,
    run_folder,
    save_sample_image,
)
from .comfyui.train_inputs import check_options, in_order, option_values
from .comfyui.training import run_training
from .load import NO_LORA

DEMO_ENCODER = "demo"
NO_MODEL = "none"
ALL_LEVELS, EXPERTS = "all noise levels", {"high noise": [0.875, 1.0], "low noise": [0.0, 0.875]}


def initial_lora(name: str, tooltip: str) -> io.Input:
    files = folder_paths.get_filename_list("loras")
    return io.Combo.Input(name, options=[NO_LORA, *files], default=NO_LORA, optional=True, tooltip=tooltip)


def own_inputs() -> dict[int, io.Input]:
    """The inputs that are not options of the training command, by position; options have all other positions."""
    return {
        0: io.String.Input(
            "dataset",
            default="",
            tooltip="A folder of captioned clips (clip.mp4 and clip.txt): its name inside ComfyUI's input folder, or "
            "a full path.",
        ),
        1: io.Combo.Input(
            "model_name",
            options=folder_paths.get_filename_list("diffusion_models"),
            tooltip="The Wan2.1 or Wan2.2-14B text-to-video model to train on, from models/diffusion_models.",
        ),
        2: io.Combo.Input(
            "vae_name",
            options=folder_paths.get_filename_list("vae"),
            tooltip="The Wan2.1 VAE, from models/vae.",
        ),
        3: io.Combo.Input(
            "text_encoder",
            options=[DEMO_ENCODER, *folder_paths.get_filename_list("text_encoders")],
            tooltip="umt5-xxl, from models/text_encoders; demo only works with the demo model.",
        ),
        7: io.String.Input(
            "output_name",
            default="my_pusa_lora",
            tooltip="File name of the new LoRA, without .safetensors.",
        ),
        35: initial_lora("init_lora", "A LoRA to start from, such as the released Pusa LoRA."),
        36: io.Image.Input("sample_image", optional=True, tooltip="First frame of the sample videos."),
        42: io.Combo.Input(
            "expert",
            options=[ALL_LEVELS, *EXPERTS],
            default=ALL_LEVELS,
            optional=True,
            tooltip="The noise levels to train on: those of the Wan2.2 model that model_name is, or all of them.",
        ),
        54: io.Combo.Input(
            "model_name_low",
            options=[NO_MODEL, *folder_paths.get_filename_list("diffusion_models")],
            default=NO_MODEL,
            optional=True,
            tooltip="Wan2.2's low-noise model, if model_name is the high-noise one: both get a LoRA each.",
        ),
        55: initial_lora(
            "init_lora_low", "A LoRA for the low-noise model to start from; init_lora is that of the other."
        ),
    }


class PusaTrainLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PusaTrainLora",
            display_name="Pusa Train LoRA",
            category="Pusa/training",
            search_aliases=["train a LoRA", "fine-tune", "finetuning", "training", "trainer"],
            advanced=["init_lora", "expert", "model_name_low", "init_lora_low"],
            description="Trains a LoRA with one noise level per latent frame on a folder of captioned clips. Interrupt "
            "saves a checkpoint; queueing the same graph again resumes.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=in_order(own_inputs()),
            outputs=[
                io.AnyType.Output(
                    display_name="lora_name", tooltip="Connect to lora_name of Pusa Load or a core LoRA loader."
                ),
                io.Image.Output(display_name="loss", tooltip="The loss at every step."),
                io.String.Output(display_name="summary", tooltip="The run in a few lines, with the clips skipped."),
                io.AnyType.Output(
                    display_name="lora_name_low", tooltip="The same for model_name_low; none without one."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, output_name: str | None = None) -> bool | str:
        # one input only: ComfyUI marks every input that this function takes, and puts its name before the message
        return (output_name is not None and name_problem(output_name)) or True

    @classmethod
    def fingerprint_inputs(cls, dataset: str | None = None, **kwargs: Any) -> str:
        if dataset is None:  # linked: ComfyUI tracks the inputs of the node it comes from
            return ""
        return fingerprint(dataset_folder(dataset))

    @classmethod
    def execute(
        cls,
        dataset: str,
        model_name: str,
        vae_name: str,
        text_encoder: str,
        output_name: str,
        init_lora: str = NO_LORA,
        sample_image: Tensor | None = None,
        expert: str = ALL_LEVELS,
        model_name_low: str = NO_MODEL,
        init_lora_low: str = NO_LORA,
        **values: Any,
    ) -> io.NodeOutput:
        if problem := name_problem(output_name):
            raise ValueError(f"output_name: {problem}")
        run = run_folder(output_name)
        options = {
            "data.folder": str(dataset_folder(dataset)),
            "model.checkpoint": model_file("diffusion_models", model_name, "model_name"),
            "model.vae": model_file("vae", vae_name, "vae_name"),
            "model.text_encoder": text_encoder,
            "output.folder": str(run),
            "output.name": output_name,
            **option_values(values),
        }
        if text_encoder != DEMO_ENCODER:
            options["model.text_encoder"] = model_file("text_encoders", text_encoder, "text_encoder")
        if model_name_low != NO_MODEL:
            options["model.low_noise_checkpoint"] = model_file("diffusion_models", model_name_low, "model_name_low")
        if init_lora != NO_LORA:
            options["model.init_lora"] = model_file("loras", init_lora, "init_lora")
        if init_lora_low != NO_LORA:
            options["model.low_noise_init_lora"] = model_file("loras", init_lora_low, "init_lora_low")
        if expert != ALL_LEVELS:
            options["train.noise_range"] = json.dumps(EXPERTS[expert])
        if sample_image is not None:
            options["output.sample_keyframes"] = json.dumps([f"0={save_sample_image(sample_image)}"])
        check_options(options)
        targets = lora_paths(output_name, experts=model_name_low != NO_MODEL)
        before = {result: check_target(target, run) for result, target in targets.items()}
        progress = TrainingProgress(cls.hidden.unique_id, run)
        run_training([f"--{option}={value}" for option, value in options.items()], progress)
        for result, target in targets.items():
            register(Path(progress.result[result]), target, before[result])
        plot = load_picture(progress.result["plot"])
        names = [target.name for target in targets.values()]
        summary = f"{', '.join(names)}: {progress.summary()}\nThe run is kept in {run}"
        progress.say(summary)
        lora, low_noise_lora = (*names, NO_LORA)[:2]
        return io.NodeOutput(lora, plot, summary, low_noise_lora, ui=ui.PreviewImage(plot, cls=cls))
