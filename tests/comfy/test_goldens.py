"""The reference's trajectories through the nodes: keyframes placed, noise levels set, sampler run."""

import json
import subprocess
from pathlib import Path

from tests.support import SCRIPTS
from tools.comfyui import python_of


def test_nodes_reproduce_every_trajectory(comfyui: Path) -> None:
    command = [python_of(comfyui), str(SCRIPTS / "run_goldens.py")]
    done = subprocess.run(command, cwd=comfyui, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    errors = json.loads(done.stdout.splitlines()[-1])
    assert len(errors) == 9
    for name, error in errors.items():
        assert error["sampler"] < 1e-3, name
        assert error["ksampler"] < 1e-3, name
