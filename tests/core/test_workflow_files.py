"""The workflow files are what their descriptions say, and each task has all of its files."""

import json

import pytest

from tools.workflows.build import WORKFLOWS, documents
from tools.workflows.tasks import TASKS, WAN22
from tools.workflows.training import TRAIN

DOCUMENTS = documents()
NAMES = {f"{prefix}{task.name}" for task in (*TASKS, TRAIN) for prefix in ("", "demo_")} | {WAN22.name}


def test_files_are_up_to_date():
    stored = {
        str(path.relative_to(WORKFLOWS)): path.read_text()
        for path in [*WORKFLOWS.glob("*.json"), *WORKFLOWS.glob("api/*.json")]
    }
    assert stored.keys() == DOCUMENTS.keys()
    stale = [name for name, text in DOCUMENTS.items() if stored[name] != text]
    assert not stale, "run python -m tools.workflows.build"


def test_every_task_has_both_forms():
    assert {f"{name}.json" for name in NAMES} | {f"api/{name}.json" for name in NAMES} == DOCUMENTS.keys()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_note_and_model_files(name):
    nodes = json.loads(DOCUMENTS[f"{name}.json"])["nodes"]
    (note,) = (node for node in nodes if node["type"] == "MarkdownNote")
    text = note["widgets_values"][0]
    assert "**Knobs**" in text and "lora_strength" in text
    if name.startswith("demo_"):
        return
    for node in nodes:
        files = [value for value in node.get("widgets_values", []) if str(value).endswith(".safetensors")]
        models = node["properties"].get("models", [])
        assert files == [model["name"] for model in models]
        for model in models:
            assert model["url"].endswith(model["name"]) and model["directory"] and model["url"] in text
