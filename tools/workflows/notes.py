"""The note of each graph: what it does, what it needs, and what to try."""

from .files import EXPERTS, LABELS, MADE_FOR_LEVELS, PUSA_LORA, T2V, TEXT_ENCODER, TURBO_LORA, VAE, Files
from .tasks import KSAMPLER, TRAIN, WAN22
from .workflow import Workflow

OPEN = "Double-click *Pusa video* to see all nodes."
OLDER = "Double-click *Pusa video* to see all nodes. Nodes missing? Use api/{name}.json."


def demo_note(task: Workflow) -> str:
    return _note([task.summary, "**Nothing to download**: press **Run**."], [*task.knobs, OPEN])


def user_note(task: Workflow) -> str:
    files = [f"{entry['directory']}: [{LABELS[entry['name']]}]({entry['url']})" for entry in files_of(task)]
    knobs = [*task.knobs, OLDER.format(name=task.name) if has_newer_nodes(task) else OPEN]
    memory = f"**Memory**: {'2 x 14' if task in WAN22 else '14'} GB of weights; what the card cannot hold stays in RAM."
    return _note([task.summary, "  \n".join(["**Files** in ComfyUI/models", *files, memory])], knobs)


def files_of(task: Workflow) -> Files:
    """The model files of a task."""
    if task in WAN22:
        models = [entry for level in EXPERTS.values() for entry in level]
    elif task.family is not None:
        models = [MADE_FOR_LEVELS[task.family]]
    elif task is TRAIN:
        models = [T2V]
    else:
        models = [T2V, PUSA_LORA] + [TURBO_LORA] * (task is not KSAMPLER)
    return [*models, TEXT_ENCODER, VAE]


def has_newer_nodes(task: Workflow) -> bool:
    """Whether the page's graph has a length in seconds, and a turbo switch, which the oldest ComfyUI lacks."""
    return task not in (TRAIN, KSAMPLER)


def _note(paragraphs: list[str], knobs: list[str]) -> str:
    return "\n\n".join([*paragraphs, "  \n".join(knobs)])
