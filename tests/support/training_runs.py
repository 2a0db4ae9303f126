"""Runs of the training command on the demo model, and clips for them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.resume_kills import ROOT, command

from .patience import HANGS

__all__ = ["ROOT", "command", "refusal", "two_processes"]


def refusal(arguments: Sequence[str], code: int = 2) -> str:
    """The last line of a command that must fail with that exit code."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=HANGS)
    assert ended.returncode == code, ended.stderr
    return ended.stderr.splitlines()[-1]


def two_processes(arguments: Sequence[str], script: str = "", **environment: str) -> None:
    """Run a command of :func:`command` in two processes that talk over gloo, as ``accelerate launch`` would.

    ``script``: run in place of the module.
    """
    module = list(arguments)[arguments.index("-m") :]
    if script:
        module[:2] = [script]
    if "ACCELERATE_USE_DEEPSPEED" in environment:
        module[:2] = [str(Path(__file__).with_name("deepspeed_on_cpu.py"))]
    starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    everything = {**os.environ, **settings, **environment}
    ended = subprocess.run([*starter, *module], cwd=ROOT, env=everything, capture_output=True, text=True, timeout=HANGS)
    assert ended.returncode == 0, ended.stderr[:3000]
