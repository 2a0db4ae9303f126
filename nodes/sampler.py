"""Pusa Sampler: LATENT with noise levels -> LATENT."""

from typing import Any

from comfy_api.latest import io

from ..pusa_core import flow_sigmas, sigma_table
from ..pusa_core.model.modulation import limit_levels
from ..pusa_core.sampling.denoise import EXPERT_BOUNDARY
from .comfyui.inputs import check_number
from .comfyui.latents import Latent, check_given, check_samples, ignored_pictures, noise_levels_of
from .comfyui.model import check_model, check_refreshable
from .comfyui.notices import warn
from .comfyui.sampling import sample_frames, split_stages
from .comfyui.schema import schema


class PusaSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PusaSampler",
            display_name="Pusa Sampler",
            category="Pusa",
            search_aliases=["generate video", "image to video", "text to video", "video sampler", "KSampler"],
            advanced=["switch", "given_frames_refresh"],
            description="Generates a video from a prompt alone, or around given frames anywhere in it.",
            inputs=[
                io.Model.Input("model", tooltip="From Pusa Load. For Wan2.2: the high-noise model."),
                io.Conditioning.Input("positive", tooltip="The prompt, from CLIP Text Encode."),
                io.Conditioning.Input("negative", tooltip="What to avoid. Without effect at cfg 1."),
                io.Latent.Input("latent", tooltip="An empty video, or one with given frames (VAE Encode Keyframes)."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Seed of the noise: another one makes another video.",
                ),
                io.Int.Input(
                    "steps", default=10, min=1, max=1000, tooltip="10 are enough with a Pusa LoRA; 4 with a turbo LoRA."
                ),
                io.Float.Input(
                    "cfg",
                    default=3.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Higher values follow the prompt more closely; 1 takes half the time and no negative.",
                ),
                io.Float.Input(
                    "shift",
                    default=5.0,
                    min=0.01,
                    max=100.0,
                    step=0.01,
                    tooltip="Higher values spend more steps at high noise. The MODEL's own shift is ignored.",
                ),
                io.Model.Input("model_low", optional=True, tooltip="Wan2.2 only: the low-noise model."),
                io.Float.Input(
                    "switch",
                    default=EXPERT_BOUNDARY,
                    min=0.0,
                    max=1.0,
                    step=0.005,
                    optional=True,
                    tooltip="Noise level below which model_low takes over. Ignored without model_low.",
                ),
                io.Int.Input(
                    "given_frames_refresh",
                    default=1,
                    min=0,
                    max=1000,
                    optional=True,
                    tooltip="Compute given frames (noise level 0) only every n-th step, with a KV cache in between; 0: "
                    "only once. Faster if many frames are given; costs memory. Requires a model from Pusa Load.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="LATENT", tooltip="The finished video, to VAE Decode.")],
        )

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
        model_low: Any = None,
        switch: float = EXPERT_BOUNDARY,
        given_frames_refresh: int = 1,
    ) -> io.NodeOutput:
        for value, name, low, high in ((cfg, "cfg", 0, 100), (shift, "shift", 0.01, 100), (switch, "switch", 0, 1)):
            check_number(value, name, low, high)
        check_model(model, "model")
        if model_low is not None:
            check_model(model_low, "model_low")
        for name, each in (("model", model), ("model_low", model_low)):
            if each is not None and given_frames_refresh != 1:
                check_refreshable(each, name, given_frames_refresh)
        samples = check_samples(latent, "latent")
        levels = noise_levels_of(latent, "latent")
        check_given(samples, levels, "latent")
        if ignored := ignored_pictures(samples, levels, "latent"):
            warn(ignored)
        sigmas = flow_sigmas(steps, shift)
        stages = split_stages(model, model_low, sigmas, sigma_table(sigmas, limit_levels(levels)), switch)
        result = sample_frames(
            stages, positive, negative, cfg, seed, samples, latent.get("batch_index"), given_frames_refresh
        )
        finished = {key: value for key, value in latent.items() if key != "noise_mask"}  # all frames are generated now
        return io.NodeOutput({**finished, "samples": result})
