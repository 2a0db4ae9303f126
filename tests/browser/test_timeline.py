"""The timeline on Frame Conditioning Mask; ``PUSA_RENDERERS=classic,nodes2`` tries both renderers of the page."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pusa_core.sampling.schedule import named_noise_levels
from tests.support.patience import HANGS
from tools.comfy_client import ComfyClient

from .conftest import HERE

SOURCES = "".join(path.read_text(encoding="utf-8") for path in sorted(HERE.glob("timeline_*.mjs")))
CASES = re.findall(r"^  async '(.+)'\(t", SOURCES, re.MULTILINE)
DRAGS = next(name for name in CASES if "random drags" in name)
NEWER_RENDERER = (1, 40)  # the oldest page in which Nodes 2.0 shows widgets of other packs


def drive(*arguments: str) -> dict[str, dict[str, Any]]:
    done = subprocess.run(["node", *arguments], capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return {entry["name"]: entry for entry in map(json.loads, done.stdout.splitlines())}


RENDERERS = os.environ.get("PUSA_RENDERERS", "classic").replace("nodes2", "vue").split(",")


@pytest.fixture(scope="module", params=RENDERERS)
def seen(request, chromium: str, server_url: str, screenshots: Path) -> dict[str, dict[str, Any]]:
    """What the page did in each case, in one of the two renderers."""
    if request.param == "vue" and frontend_version(server_url) < NEWER_RENDERER:
        pytest.skip("this page's Nodes 2.0 shows no widgets of other packs")
    return drive(str(HERE / "timeline.mjs"), server_url, str(screenshots), chromium, request.param)


def frontend_version(url: str) -> tuple[int, ...]:
    system = ComfyClient(url).get_json("/system_stats")["system"]
    return tuple(int(part) for part in str(system.get("required_frontend_version") or "0").split(".")[:2])


@pytest.mark.parametrize("name", CASES)
def test_timeline(seen: dict[str, dict[str, Any]], name: str) -> None:
    assert seen[name]["error"] is None


def test_python_reads_the_drawn_texts_as_they_are_drawn(seen: dict[str, dict[str, Any]]) -> None:
    drags = seen[DRAGS]["drags"]
    assert len(drags) == 1000
    for drag in drags:
        named = named_noise_levels(drag["text"], 21)
        assert drag["levels"] == pytest.approx([named.get(frame, 0.0) for frame in range(21)], abs=1e-9)
