"""The examples of ``docs/api.md`` run as they are written, but for the server's address."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest

from demo.inputs import write_inputs
from tests.support.patience import HANGS
from tools.comfyui import PACK

EXAMPLES = re.findall(r"```(bash|python)\n(.+?)```", (PACK / "docs" / "api.md").read_text(encoding="utf-8"), re.DOTALL)
ADDRESS = "127.0.0.1:8188"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clone as a user has it after ``python -m demo.inputs``."""
    write_inputs(tmp_path, 3)
    for name in ("workflows", "tools"):
        shutil.copytree(PACK / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(("language", "program"), EXAMPLES, ids=["curl", "python", "client"])
def test_example_makes_a_video(folder: Path, server_url: str, language: str, program: str) -> None:
    if language == "bash" and not (shutil.which("curl") and shutil.which("jq")):
        pytest.skip("no curl or no jq found")
    for package in ("requests", "websocket"):
        if re.search(rf"import .*\b{package}\b", program):
            pytest.importorskip(package)
    assert ADDRESS in program
    lines = [line for line in program.splitlines() if line.strip()]
    assert len(lines) <= 20 and max(map(len, lines)) <= 120
    command = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "no_proxy": "127.0.0.1"}
    program = program.replace(ADDRESS, server_url.removeprefix("http://"))
    done = subprocess.run(
        [*command, program], cwd=folder, env=environment, capture_output=True, text=True, timeout=HANGS
    )
    assert done.returncode == 0, done.stderr
    (name,) = re.findall(r"video_\w+\.mp4", program)
    with av.open(str(folder / name)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 81
    assert (re.search(r"node \d+: 10 of 10", done.stdout) is not None) == ("websocket" in program)
