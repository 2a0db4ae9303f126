"""A user drops the workflows of this pack on ComfyUI's page; those of the demo model also run.

``PUSA_RENDERERS=classic,nodes2`` tries both renderers.
"""

import itertools
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import HANGS
from tests.support.workflows import DEMO, REAL, WORKFLOWS
from tools.workflows.layout import FIT

from .conftest import HERE

Seen = dict[str, dict[str, Any]]
NEWER = ("ComfySwitchNode", "ComfyMathExpression")
SCREEN = (1600, 1000)


@pytest.fixture(scope="module", params=os.environ.get("PUSA_RENDERERS", "classic").split(","))
def screenshots(request: pytest.FixtureRequest, screenshots: Path) -> Path:
    folder = screenshots / request.param
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def seen(chromium: str, server_url: str, screenshots: Path) -> Seen:
    """What ``drive.mjs`` saw, by workflow: all in one page, one after the other."""
    command = ["node", str(HERE / "drive.mjs"), server_url, str(screenshots), chromium, screenshots.name]
    done = subprocess.run([*command, *map(str, WORKFLOWS)], capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return {entry["name"]: entry for entry in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", DEMO)
def test_dropped_demo_workflow_runs(seen: Seen, screenshots: Path, name: str) -> None:
    assert seen[name]["missing"] == []
    assert seen[name]["refused"] == []
    assert (seen[name]["end"], seen[name]["error"]) == ("execution_success", None)
    files = [entry["filename"] for output in seen[name]["outputs"] for entry in (output or {}).get("images", [])]
    assert any(file.endswith(".mp4") for file in files)
    if "Text to video" not in name:
        assert any(file.endswith(".png") for file in files)  # the timeline of Frame Conditioning Mask
    assert (screenshots / f"{name}.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", REAL)
def test_dropped_workflow_lacks_only_files(seen: Seen, name: str) -> None:
    assert set(seen[name]["missing"]) <= set(NEWER)
    assert [value for value in seen[name]["refused"] if not re.search(r"\.(safetensors|png|mp4)$", value)] == []


def overlap(a: list[float], b: list[float]) -> bool:
    """Whether two boxes (left, top, width, height) share more than a line."""
    return a[0] + 1 < b[0] + b[2] and b[0] + 1 < a[0] + a[2] and a[1] + 1 < b[1] + b[3] and b[1] + 1 < a[1] + a[3]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_dropped_workflow_is_in_view_and_nothing_overlaps(seen: Seen, path: Path) -> None:
    view = seen[path.stem]["view"]
    assert view["scale"] == 1
    boxes = {node["name"]: node["box"] for node in view["nodes"]}
    assert len(boxes) == len(view["nodes"])
    shown = [*boxes.values(), *(group["box"] for group in view["groups"])]
    for left, top, width, height in shown:
        assert left >= 0 and top >= 0 and left + width <= SCREEN[0] and top + height <= SCREEN[1]
    assert max(box[0] + box[2] for box in shown) - min(box[0] for box in shown) <= FIT[0]
    assert max(box[1] + box[3] for box in shown) - min(box[1] for box in shown) <= FIT[1]
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        assert not overlap(a, b), (one, a, other, b)
    assert {node["name"]: node["lacks"] for node in view["nodes"] if node["lacks"] > 0} == {}
