"""Pusa Patch Model: patches a Wan text-to-video MODEL to read the noise levels of a LATENT."""

from typing import Any

from comfy_api.latest import io

from .comfyui.bases import check_base
from .comfyui.noise_levels import read_noise_levels
from .comfyui.schema import schema


class PusaPatchModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PusaPatchModel",
            display_name="Pusa Patch Model",
            category="Pusa",
            search_aliases=["Pusa with KSampler", "native Pusa", "per-frame timestep", "GGUF"],
            description="Lets ComfyUI's own samplers respect the noise level of every latent frame of a LATENT.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="A Wan text-to-video model, or another video model whose network takes a time per frame.",
                )
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="To KSampler, or to any other sampler.")],
        )

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        check_base(model, "model")
        return io.NodeOutput(read_noise_levels(model))
