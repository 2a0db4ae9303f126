"""A user opens the demo workflows as apps on a phone and presses Run."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import HANGS
from tests.support.workflows import DEMO, WORKFLOWS

from .conftest import HERE

PHONE = 390


@pytest.fixture(scope="module")
def apps(chromium: str, server_url: str, screenshots: Path) -> dict[str, dict[str, Any]]:
    """What ``apps.mjs`` saw, by workflow."""
    files = [str(path) for path in WORKFLOWS if path.stem in DEMO]
    command = ["node", str(HERE / "apps.mjs"), server_url, str(screenshots), chromium, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    seen = {entry["name"]: entry for entry in map(json.loads, done.stdout.splitlines())}
    if not seen:
        pytest.skip("this version of ComfyUI has no app mode")
    return seen


@pytest.mark.parametrize("name", DEMO)
def test_an_app_shows_labelled_knobs_and_runs(apps: dict[str, dict[str, Any]], name: str) -> None:
    app = apps[name]
    assert (app["end"], app["error"]) == ("execution_success", None)
    assert app["width"] <= PHONE  # nothing to scroll sideways
    lines = app["text"].splitlines()
    assert {"Steps", "CFG", "Negative prompt", "Run"} <= set(lines)
    assert ("Noise levels" in lines) == (not name.endswith(("Text to video", "Video of any length")))
    assert "noise_levels" not in app["text"]  # no name of an API
