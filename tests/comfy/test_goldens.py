"""The reference's trajectories through the nodes: keyframes placed, noise levels set, sampler run."""

import json
from pathlib import Path

from tests.support.comfy_scripts import run_script


def test_nodes_reproduce_every_trajectory(comfyui: Path) -> None:
    errors = json.loads(run_script(comfyui, "run_goldens.py"))
    assert len(errors) == 9
    for name, error in errors.items():
        assert error["sampler"] < 1e-3, name
        assert error["ksampler"] < 1e-3, name
