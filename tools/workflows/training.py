"""The training of the graph that trains a LoRA and samples with it."""

from typing import Any

from .files import Files
from .graph import Graph, Slot
from .parts import PICTURES, TRAINING

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
KNOBS = {
    "dataset": "Folder of clips",
    "output_name": "Name of the LoRA",
    "steps": "Training steps",
    "rank": "Rank",
    "learning_rate": "Learning rate",
    "width": "Training width",
    "height": "Training height",
    "batch": "Clips per step",
    "model_name": "Trained model",
}


def add_training(graph: Graph, files: Files) -> Slot:
    """Add training on the user's clips with a model, VAE and text encoder; returns the slot of the LoRA's name."""
    names = dict(zip(DEMO_FILES, (file["name"] for file in files), strict=True))
    return _add(graph, files, dataset="my_clips", **names, **VALUES)


def add_demo_training(graph: Graph) -> Slot:
    """Add training on a few demo clips with sample videos; returns the slot of the LoRA's name."""
    with graph.at(PICTURES):
        clips = graph.slot(graph.add("PusaDemoDataset", first_scene=20000, clips=8))
    with graph.at(TRAINING):
        picture = graph.add("PusaDemoImage", "First frame of the sample videos", seed=5)
    values = VALUES | DEMO_FILES | DEMO_VALUES
    values |= {"sample_image": graph.slot(picture), "sample_prompt": graph.slot(picture, 1)}
    return _add(graph, None, dataset=clips, **values)


def _add(graph: Graph, files: Files | None, **values: Any) -> Slot:
    with graph.at(TRAINING):
        number = graph.add("PusaTrainLora", files=files, **values)
    for name, label in KNOBS.items():
        graph.knob(f"train_{name}", label, (number, name))
    return graph.slot(number)
