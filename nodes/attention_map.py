"""Pusa Attention Map: samples like Pusa Sampler and records the attention between latent frames."""

from typing import Any

from comfy_api.latest import io, ui

from ..pusa_core import flow_sigmas
from ..pusa_core.analysis import AttentionRecorder
from ..pusa_core.analysis.attention_map import parse_numbers
from ..pusa_core.analysis.pictures import draw_attention_maps
from ..pusa_core.sampling.denoise import EXPERT_BOUNDARY
from .comfyui.attention_recorder import record_attention
from .comfyui.images import as_image, free_stem
from .comfyui.inputs import check_number
from .comfyui.latents import Latent
from .comfyui.model import check_model
from .comfyui.schema import schema
from .sampler import PusaSampler


def read_numbers(text: str, name: str) -> list[int]:
    """The numbers in the input ``name``. Raises ``ValueError`` for any other text."""
    try:
        return parse_numbers(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


class PusaAttentionMap(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        # a map covers all frames, so all of them are computed at every step
        inputs = [each for each in PusaSampler.define_schema().inputs if each.id != "given_frames_refresh"]
        own = [
            io.String.Input("record_steps", default="0,3,6,9", tooltip="Steps to record, from 0; -1 is the last."),
            io.String.Input("blocks", default="-1", tooltip="Blocks to record, from 0; -1 is the last."),
            io.String.Input(
                "filename_prefix",
                default="pusa/attention_map",
                tooltip="Prefix of the .csv and .npz files with the values, in the output folder.",
            ),
        ]
        required = [each for each in inputs if not each.optional]
        return schema(
            node_id="PusaAttentionMap",
            display_name="Pusa Attention Map",
            category="Pusa/analysis",
            search_aliases=["visualize attention", "attention between frames"],
            description="Samples like Pusa Sampler and shows how much the latent frames attend to each other.",
            inputs=[*required, *own, *inputs[len(required) :]],
            outputs=[
                io.Image.Output(display_name="maps", tooltip="Steps from top to bottom, blocks from left to right."),
                io.Latent.Output(display_name="LATENT", tooltip="The finished video, to VAE Decode."),
                io.String.Output(display_name="report", tooltip="The maps in words, and where the numbers are."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, record_steps: str | None = None) -> bool | str:
        # one input only: ComfyUI marks every input that this function takes, and puts its name before the message
        try:
            parse_numbers("0" if record_steps is None else record_steps)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: list,
        negative: list,
        latent: Latent,
        seed: int,
        steps: int,
        cfg: float,
        shift: float,
        record_steps: str,
        blocks: str,
        filename_prefix: str,
        model_low: Any = None,
        switch: float = EXPERT_BOUNDARY,
    ) -> io.NodeOutput:
        check_number(shift, "shift", 0.01, 100)
        check_model(model, "model")
        count = len(model.model.diffusion_model.blocks)
        chosen = read_numbers(record_steps, "record_steps"), read_numbers(blocks, "blocks")
        recorder = AttentionRecorder(*chosen, total_steps=steps, total_blocks=count)
        sigmas = flow_sigmas(steps, shift)
        model, model_low = (m and record_attention(m, recorder, sigmas) for m in (model, model_low))
        prompts = positive, negative
        sampled = PusaSampler.execute(model, *prompts, latent, seed, steps, cfg, shift, model_low, switch)
        maps, stem = recorder.result(), free_stem(filename_prefix)
        maps.save(stem.with_name(stem.name + ".npz"), stem.with_name(stem.name + ".csv"))
        image = as_image(draw_attention_maps(maps))
        report = f"{maps.describe()}\nnumbers: {stem}.csv, {stem}.npz"
        return io.NodeOutput(image, sampled.args[0], report, ui=ui.PreviewImage(image, cls=cls))
