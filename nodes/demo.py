"""Text encoder and VAE of the embedded demo model, and input images and clips for it."""

from pathlib import Path

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io, ui

from ..demo.clips import FRAMES, draw_scene
from ..demo.dataset import write_dataset
from ..pusa_core.media.video import write_video
from ..pusa_core.storage.atomic import write_whole
from ..pusa_core.weights.demo_files import VAE
from .comfyui.demo_encoders import demo_clip, demo_vae
from .comfyui.schema import schema


def scene_seed() -> io.Input:
    return io.Int.Input(
        "seed",
        display_name="Scene",
        default=0,
        min=0,
        max=0xFFFFFFFF,
        control_after_generate=True,
        tooltip="Selects the clip. Nodes with the same seed give parts of the same clip.",
    )


class PusaDemoLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PusaDemoLoader",
            display_name="Pusa Demo CLIP and VAE",
            category="Pusa/demo",
            search_aliases=["demo model", "try without download"],
            description="Text encoder and VAE of the small demo model included in this pack. No download needed.",
            inputs=[],
            outputs=[
                io.Clip.Output(display_name="clip", tooltip="To CLIP Text Encode."),
                io.Vae.Output(display_name="vae", tooltip="To VAE Encode Keyframes and VAE Decode."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(demo_clip(), demo_vae(folder_paths.get_full_path_or_raise("vae", VAE.name)))


class PusaDemoImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PusaDemoImage",
            display_name="Pusa Demo Image",
            category="Pusa/demo",
            search_aliases=["demo picture", "example image"],
            description="The first frame of a clip like those the demo model was trained on, and its prompt.",
            has_intermediate_output=True,
            inputs=[scene_seed()],
            outputs=[
                io.Image.Output(display_name="image", tooltip="To VAE Encode Keyframes."),
                io.String.Output(display_name="prompt", tooltip="What is to be seen, to CLIP Text Encode."),
            ],
        )

    @classmethod
    def execute(cls, seed: int) -> io.NodeOutput:
        scene = draw_scene(seed)
        image = torch.from_numpy(scene.render([0]))
        return io.NodeOutput(image, scene.caption, ui=ui.PreviewImage(image, cls=cls))


class PusaDemoClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PusaDemoClip",
            display_name="Pusa Demo Clip",
            category="Pusa/demo",
            search_aliases=["demo video", "example clip"],
            description="Frames of a clip like those the demo model was trained on, and its prompt.",
            inputs=[
                scene_seed(),
                io.Int.Input("first", default=0, min=0, max=FRAMES - 1, tooltip="Index of the first frame, from 0."),
                io.Int.Input("length", default=FRAMES, min=1, max=FRAMES, tooltip="Number of frames."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="To VAE Encode Keyframes."),
                io.String.Output(display_name="prompt", tooltip="What is to be seen, to CLIP Text Encode."),
            ],
        )

    @classmethod
    def execute(cls, seed: int, first: int, length: int) -> io.NodeOutput:
        if first + length > FRAMES:
            raise ValueError(f"frames {first} to {first + length - 1}: the clip has {FRAMES} (0 to {FRAMES - 1})")
        scene = draw_scene(seed)
        return io.NodeOutput(torch.from_numpy(scene.render(range(first, first + length))), scene.caption)


class PusaDemoDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PusaDemoDataset",
            display_name="Pusa Demo Dataset",
            category="Pusa/demo",
            search_aliases=["demo training data", "example dataset"],
            description="A training folder of captioned clips like those the demo model was trained on.",
            inputs=[
                io.Int.Input("first_scene", default=20000, min=0, max=0xFFFFFFFF, tooltip="Seed of the first clip."),
                io.Int.Input("clips", default=8, min=1, max=1000, tooltip="Number of clips, with consecutive seeds."),
            ],
            outputs=[io.String.Output(display_name="dataset", tooltip="The folder, inside ComfyUI's input folder.")],
        )

    @classmethod
    def execute(cls, first_scene: int, clips: int) -> io.NodeOutput:
        name = f"pusa_demo_{first_scene}_{clips}"
        folder = Path(folder_paths.get_input_directory(), name)

        def write_clip(frames: np.ndarray, path: Path) -> None:
            write_video(torch.from_numpy(frames), path)

        write_dataset(folder, first_scene, clips, write_clip, write_whole)
        return io.NodeOutput(name)
