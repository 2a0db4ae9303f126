"""The graph that trains a LoRA and samples with it: task description and values of the training node."""

from typing import Any

from .graph import Graph, Slot
from .tasks import FIRST, LEVELS, Workflow

TRAIN = Workflow(
    "train_lora",
    "Train a LoRA and sample with it",
    "Trains a LoRA on a folder of clips, then generates a video with it that starts with the given image.",
    given=(FIRST,),
    knobs=(
        "*Pusa Train LoRA*: `dataset` is a folder of captioned clips (`clip.mp4`, `clip.txt`) in ComfyUI's input "
        "folder; `steps`, `rank`, `learning_rate`; use a new `output_name` for every training run. Interrupt saves a "
        "checkpoint, and Run resumes from it. The plot shows the loss.",
        LEVELS + "`0:0` keeps the image exactly.",
    ),
)

VALUES: dict[str, Any] = {"fps": 16.0}  # resample the user's clips to Wan's frame rate
DEMO_VALUES: dict[str, Any] = {
    "steps": 60,
    "rank": 16,
    "learning_rate": 2e-3,
    "output_name": "pusa_demo_trained",
    "width": 64,
    "height": 64,
    "batch": 4,
    "gradient_checkpointing": False,
    "save_every": 20,
    "sample_every": 30,
}


DEMO_FILES = {
    "model_name": "pusa_demo_wan_t2v.safetensors",
    "vae_name": "pusa_demo_vae.safetensors",
    "text_encoder": "demo",
}


def add_training(graph: Graph, files: list[dict[str, str]]) -> Slot:
    """Add training on the user's clips with a model, VAE and text encoder; returns the slot of the LoRA's name."""
    names = dict(zip(DEMO_FILES, (file["name"] for file in files), strict=True))
    return graph.slot(graph.add("PusaTrainLora", -1, files=files, dataset="my_clips", **names, **VALUES))


def add_demo_training(graph: Graph) -> Slot:
    """Add training on a few demo clips with sample videos; returns the slot of the LoRA's name."""
    clips = graph.slot(graph.add("PusaDemoDataset", -2, first_scene=20000, clips=8))
    picture = graph.add("PusaDemoImage", -2, "First frame of the sample videos", seed=5)
    values = VALUES | DEMO_FILES | DEMO_VALUES
    values |= {"sample_image": graph.slot(picture), "sample_prompt": graph.slot(picture, 1)}
    return graph.slot(graph.add("PusaTrainLora", -1, dataset=clips, **values))
