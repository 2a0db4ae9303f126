"""The graph that trains a LoRA and samples with it: the task, and the training node's values."""

from typing import Any

from .graph import Graph, Slot
from .tasks import FIRST, LEVELS, Workflow

TRAIN = Workflow(
    "train_lora",
    "Train a LoRA and sample with it",
    "A LoRA is trained on a folder of clips, then the video that starts with the given picture is made with it.",
    given=(FIRST,),
    knobs=(
        "*Pusa Train LoRA*: `dataset` is a folder of clips with captions (`clip.mp4`, `clip.txt`) in ComfyUI's input "
        "folder. `steps`, `rank`, `learning_rate`; another training needs another `output_name`. Interrupt saves, and "
        "Run goes on from there. The plot shows the loss.",
        LEVELS + "`0:0` keeps the picture as it is.",
    ),
)

VALUES: dict[str, Any] = {"fps": 16.0}  # a user's clips are read at the rate that Wan makes
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
    """Training on a user's clips with a model, a VAE and a text encoder; the slot of the LoRA's name."""
    names = dict(zip(DEMO_FILES, (file["name"] for file in files), strict=True))
    return graph.slot(graph.add("PusaTrainLora", -1, files=files, dataset="my_clips", **names, **VALUES))


def add_demo_training(graph: Graph) -> Slot:
    """Training on a few demo clips, which shows its progress with a sample; the slot of the LoRA's name."""
    clips = graph.slot(graph.add("PusaDemoDataset", -2, first_scene=20000, clips=8))
    picture = graph.add("PusaDemoImage", -2, "First frame of the samples", seed=5)
    values = VALUES | DEMO_FILES | DEMO_VALUES
    values |= {"sample_image": graph.slot(picture), "sample_prompt": graph.slot(picture, 1)}
    return graph.slot(graph.add("PusaTrainLora", -1, dataset=clips, **values))
