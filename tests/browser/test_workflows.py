"""A user drops the workflows of this pack on ComfyUI's page; those of the demo model are also run."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import HANGS
from tests.support.workflows import DEMO, REAL, WORKFLOWS

from .conftest import HERE


@pytest.fixture(scope="module")
def seen(chromium: str, server_url: str, screenshots: Path) -> dict[str, dict[str, Any]]:
    """What ``drive.mjs`` saw, by workflow: all in one page, one after the other."""
    command = ["node", str(HERE / "drive.mjs"), server_url, str(screenshots), chromium, *map(str, WORKFLOWS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return {entry["name"]: entry for entry in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", DEMO)
def test_dropped_demo_workflow_runs(seen: dict[str, dict[str, Any]], screenshots: Path, name: str) -> None:
    assert seen[name]["missing"] == []
    assert seen[name]["refused"] == []
    assert (seen[name]["end"], seen[name]["error"]) == ("execution_success", None)
    files = [entry["filename"] for output in seen[name]["outputs"] for entry in (output or {}).get("images", [])]
    assert any(file.endswith(".mp4") for file in files)
    if name != "demo_text_to_video":
        assert any(file.endswith(".png") for file in files)  # the timeline of Frame Conditioning Mask
    assert (screenshots / f"{name}.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", REAL)
def test_dropped_workflow_lacks_only_files(seen: dict[str, dict[str, Any]], name: str) -> None:
    assert seen[name]["missing"] == []
    assert [value for value in seen[name]["refused"] if not re.search(r"\.(safetensors|png|mp4)$", value)] == []
