"""Generates the workflow files in both formats: ``python -m tools.workflows.build``.

Each task has two graphs, one with the embedded demo model, which runs without downloads, and one with the standard
model files. The page shows the name of a file as its title.
"""

from pathlib import Path

from .blueprints import blueprint, has_blueprint
from .graph import Json, dump
from .graphs import demo_graph, user_graph
from .notes import demo_note, has_newer_nodes, user_note
from .page import Page
from .parameters import parameters_file
from .tasks import CLIPS, EXTEND, KSAMPLER, PARTS, SKYREELS, TASKS, TRAIN, WAN22
from .workflow import Workflow

PACK = Path(__file__).parents[2]
WORKFLOWS, SUBGRAPHS = PACK / "workflows", PACK / "subgraphs"
DEMO_TASKS = (*TASKS, *PARTS, *CLIPS, EXTEND, KSAMPLER, TRAIN)
USER_TASKS = (*TASKS, *PARTS, *CLIPS, EXTEND, *WAN22, *SKYREELS, KSAMPLER, TRAIN)


def demo_title(task: Workflow) -> str:
    return f"Pusa demo - {task.title}"


def user_title(task: Workflow) -> str:
    return f"Pusa - {task.title}"


API_NAMES = {demo_title(task): f"demo_{task.name}" for task in DEMO_TASKS}
API_NAMES |= {user_title(task): task.name for task in USER_TASKS}
"""The name in ``workflows/api/`` of each workflow file."""


def documents() -> dict[str, str]:
    """The contents of all files by path in ``workflows/``."""
    files: dict[str, str] = {}
    tables: dict[str, Json] = {}
    for task in DEMO_TASKS:
        graph = demo_graph(task)
        files[f"{demo_title(task)}.json"] = dump(Page(graph).document(demo_note(task)))
        files[f"api/demo_{task.name}.json"] = dump(tables.setdefault(f"demo_{task.name}", graph.api()))
    for task in USER_TASKS:
        graph = user_graph(task, newest=has_newer_nodes(task))
        files[f"{user_title(task)}.json"] = dump(Page(graph).document(user_note(task)))
        files[f"api/{task.name}.json"] = dump(tables.setdefault(task.name, user_graph(task).api()))
    files["api/parameters.json"] = parameters_file(tables)
    return files


def blueprints() -> dict[str, str]:
    """The contents of the files in ``subgraphs/`` by name."""
    titles = {user_title(task): task for task in USER_TASKS if has_blueprint(task)}
    return {f"{title}.json": dump(blueprint(task, title)) for title, task in titles.items()}


def main() -> None:
    for path, text in documents().items():
        (WORKFLOWS / path).write_text(text, encoding="utf-8")
    for name, text in blueprints().items():
        (SUBGRAPHS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
