"""Runs the scripts of ``scripts/`` in ComfyUI's own Python."""

import subprocess
from pathlib import Path

from tools.comfyui import python_of

from .patience import HANGS

SCRIPTS = Path(__file__).with_name("scripts")


def start_script(comfyui: Path, name: str, *arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``scripts/name`` in ComfyUI's folder to completion, with ``text`` on its standard input."""
    command = [python_of(comfyui), str(SCRIPTS / name), *map(str, arguments)]
    return subprocess.run(command, cwd=comfyui, capture_output=True, text=True, timeout=HANGS, input=text)


def run_script(comfyui: Path, name: str, *arguments: object) -> str:
    """Run a script and return the last line it prints; fails with its stderr if it fails."""
    done = start_script(comfyui, name, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1] if done.stdout else ""
