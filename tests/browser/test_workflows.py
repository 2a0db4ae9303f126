"""A user drops a workflow of this pack on ComfyUI's page and presses Run."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from demo.comfyui import PACK

from .conftest import HERE

WORKFLOWS = sorted((PACK / "workflows").glob("demo_*.json"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=[path.stem for path in WORKFLOWS])
def test_dropped_workflow_runs(chromium: str, server_url: str, workflow: Path, tmp_path: Path) -> None:
    folder = Path(os.environ.get("PUSA_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    screenshot = folder / f"{workflow.stem}.png"
    command = ["node", str(HERE / "drive.mjs"), server_url, str(workflow), str(screenshot), chromium]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["missing"] == []
    assert seen["refused"] == []
    assert (seen["end"], seen["error"]) == ("execution_success", None)
    files = [entry["filename"] for output in seen["outputs"] for entry in (output or {}).get("images", [])]
    assert any(name.endswith(".mp4") for name in files)
    assert screenshot.stat().st_size > 10_000
