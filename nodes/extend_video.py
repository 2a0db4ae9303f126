"""Pusa Extend Video: a clip, a picture or a prompt alone -> a video of any length, scene by scene."""

from typing import Any

from comfy_api.latest import InputImpl, io, ui
from torch import Tensor

from ..pusa_core import Settings
from ..pusa_core.sampling.denoise import EXPERT_BOUNDARY
from ..pusa_core.sampling.extend import parse_takes
from ..pusa_core.sampling.keyframes import latent_length
from ..pusa_core.sampling.plan import LONGEST, parse_prompts, split_prompts
from ..pusa_core.sampling.windows import MODES, RECIPES, recipe_of
from .comfyui.film import Networks, make_film
from .comfyui.film_plan import Start, plan_film, signature
from .comfyui.images import as_image
from .comfyui.inputs import check_number
from .comfyui.latents import Latent
from .comfyui.model import check_model, check_refreshable
from .comfyui.rough_pictures import with_format
from .comfyui.schema import schema

CHUNK = RECIPES["chunk"]
FPS = 16


class PusaExtendVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PusaExtendVideo",
            display_name="Pusa Extend Video",
            category="Pusa",
            search_aliases=[
                *("extend video", "continue video", "long video", "video of any length", "infinite video"),
                *("FramePack", "sliding window", "scenes", "prompt schedule", "image to long video"),
            ],
            advanced=[
                *("switch", "retakes", "until", "fps", "length", "mode", "history", "history_levels", "anchor"),
                *("match_colour", "history_guidance", "block", "given_frames_refresh"),
            ],
            description="Makes a video of any length, scene by scene, from a clip, a picture or the prompt alone. "
            "Scenes are kept on disk, so that Run goes on where it was stopped, and one can be made anew.",
            has_intermediate_output=True,
            inputs=[*_needed(), *_start(), *_kept(), *_recipe()],
            outputs=[
                io.Video.Output(display_name="VIDEO", tooltip="The whole video, with the clip's sound: to Save Video."),
                io.Latent.Output(
                    display_name="LATENT",
                    tooltip="The latents that the scenes go on from, and theirs: to VAE Decode, or to another of these "
                    "nodes.",
                ),
                io.Image.Output(display_name="scenes", tooltip="A picture of every scene with its number and seed."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def validate_inputs(cls, prompt: str | None = None, retakes: str | None = None) -> bool | str:
        try:
            parse_prompts(split_prompts(prompt or ""))
            parse_takes(retakes or "")
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        prompt: str,
        negative: str,
        seconds: float,
        width: int,
        height: int,
        seed: int,
        steps: int,
        cfg: float,
        shift: float,
        video: Any = None,
        image: Tensor | None = None,
        latent: Latent | None = None,
        model_low: Any = None,
        switch: float = EXPERT_BOUNDARY,
        scenes: str = "pusa/scenes",
        retakes: str = "",
        until: int = 0,
        fps: int = FPS,
        length: int = 81,
        mode: str = "chunk",
        history: int = 0,
        history_levels: str = "",
        anchor: bool = True,
        match_colour: bool = True,
        history_guidance: float = 1.0,
        block: int = 4,
        given_frames_refresh: int = 1,
    ) -> io.NodeOutput:
        check_number(switch, "switch", 0, 1)
        for name, each in (("model", model), ("model_low", model_low)):
            if each is not None:
                check_model(each, name)
                if given_frames_refresh != 1:
                    check_refreshable(each, name, given_frames_refresh)
        latent_length(length)
        start = Start.of(video, image, latent, fps, (width, height), model)
        film = plan_film(
            Settings(*start.size, length, steps, cfg, shift, seed, given_frames_refresh),
            recipe_of(mode, history, history_levels, anchor, match_colour, history_guidance, block),
            start,
            seconds=seconds,
            prompt=prompt,
            retakes=retakes,
            until=until,
            folder=scenes,
            experts=1 if model_low is None else 2,
            identity={**signature(cls.hidden, (model, model_low)), "negative": negative, "switch": switch},
        )
        made = make_film(film, Networks(model, model_low, clip, negative, switch), vae, start.sound)
        strip = as_image(made.strip)
        return io.NodeOutput(
            InputImpl.VideoFromFile(str(made.video)),
            {**with_format(None, vae), "samples": made.latents},
            strip,
            ui=ui.PreviewImage(strip, cls=cls),
        )


def _needed() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="From Pusa Load. For Wan2.2: the high-noise model."),
        io.Clip.Input("clip", tooltip="umt5, from Load CLIP; it encodes the prompts."),
        io.Vae.Input("vae", tooltip="The Wan2.1 VAE."),
        io.String.Input(
            "prompt",
            multiline=True,
            default="",
            tooltip='What the video shows. From a line such as "10s: it begins to rain" on, another prompt holds.',
        ),
        io.String.Input("negative", multiline=True, default="", tooltip="What to avoid. Without effect at cfg 1."),
        io.Float.Input(
            "seconds",
            default=20.0,
            min=0.1,
            max=LONGEST,
            step=0.5,
            round=0.001,
            tooltip="Length of the whole video, with what it begins with.",
        ),
        io.Int.Input("width", default=832, min=16, max=4096, step=16, tooltip="Ignored if a latent is connected."),
        io.Int.Input("height", default=480, min=16, max=4096, step=16, tooltip="Ignored if a latent is connected."),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="Seed of the first scene; every scene has the next one. Another seed makes all scenes anew: "
            "keep it fixed to go on.",
        ),
        io.Int.Input("steps", default=10, min=1, max=1000, tooltip="10 with a Pusa LoRA; 4 with a turbo LoRA."),
        io.Float.Input("cfg", default=3.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip="1 takes half the time."),
        io.Float.Input(
            "shift", default=5.0, min=0.01, max=100.0, step=0.01, tooltip="Higher: more steps at high noise."
        ),
    ]


def _start() -> list[io.Input]:
    return [
        io.Video.Input(
            "video", optional=True, tooltip="A clip to go on from. Its frames and sound are kept; any rate, any size."
        ),
        io.Image.Input("image", optional=True, tooltip="A picture to begin with, or the frames of a clip, at fps."),
        io.Latent.Input(
            "latent", optional=True, tooltip="A video to go on from, from a sampler or another of these nodes."
        ),
        io.Model.Input("model_low", optional=True, tooltip="Wan2.2 only: the low-noise model."),
        io.Float.Input(
            "switch",
            default=EXPERT_BOUNDARY,
            min=0.0,
            max=1.0,
            step=0.005,
            optional=True,
            tooltip="Noise level below which model_low takes over.",
        ),
    ]


def _kept() -> list[io.Input]:
    return [
        io.String.Input(
            "scenes",
            default="pusa/scenes",
            optional=True,
            tooltip="Folder within the output folder in which every scene is kept. Scenes that are there are not made "
            "again.",
        ),
        io.String.Input(
            "retakes",
            multiline=True,
            default="",
            optional=True,
            tooltip='Scenes to make anew, one a line: "3: seed 7", "3: a cat jumps", or "3: seed 7, a cat jumps". '
            "Without the line, the first take is back.",
        ),
        io.Int.Input(
            "until", default=0, min=0, max=100000, optional=True, tooltip="Stop behind this scene; 0: make all of them."
        ),
        io.Int.Input("fps", default=FPS, min=1, max=120, optional=True, tooltip="Frames per second of the model."),
        io.Int.Input(
            "length", default=81, min=5, max=4001, step=4, optional=True, tooltip="Frames that the model sees at once."
        ),
    ]


def _recipe() -> list[io.Input]:
    low, high = CHUNK.levels
    return [
        io.Combo.Input(
            "mode",
            options=list(MODES),
            default=CHUNK.mode,
            optional=True,
            tooltip="chunk: all new frames of a scene together. rolling: a few are finished and begun at a time.",
        ),
        io.Int.Input(
            "history",
            default=0,
            min=0,
            max=16,
            optional=True,
            tooltip=f"Newest latent frames that each scene sees; 0: {CHUNK.history}, or "
            f"{RECIPES['rolling'].history} when rolling.",
        ),
        io.String.Input(
            "history_levels",
            default="",
            optional=True,
            tooltip=f"Their noise levels, from the oldest to the newest; empty: {low:g}..{high:g}.",
        ),
        io.Boolean.Input(
            "anchor", default=True, optional=True, tooltip="Show the first frame of the video to every scene."
        ),
        io.Boolean.Input(
            "match_colour",
            default=True,
            optional=True,
            tooltip="Hold the colours of what the video begins with. Off if the prompts lead to other places.",
        ),
        io.Float.Input(
            "history_guidance",
            default=1.0,
            min=0.0,
            max=10.0,
            step=0.1,
            optional=True,
            tooltip="Above 1 ties new frames to the old ones, below loosens them; twice the time unless 1.",
        ),
        io.Int.Input(
            "block", default=4, min=1, max=100, optional=True, tooltip="Latent frames finished at a time when rolling."
        ),
        io.Int.Input(
            "given_frames_refresh",
            default=1,
            min=0,
            max=1000,
            optional=True,
            tooltip="As in Pusa Sampler, for frames given at level 0.",
        ),
    ]
