"""One video in several processes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from PIL import Image

from pusa_core.model.parallel import choose_bands
from tests.conftest import max_error
from tests.support.parallel_workers import build, refuse, run, work
from tests.support.patience import HANGS
from tools.comfyui import PACK, free_port


@pytest.mark.parametrize("size", [2, 4])
def test_several_processes_equal_one(tmp_path, size):
    mp.spawn(work, (size, free_port(), tmp_path), nprocs=size)
    expected = run(build())
    for rank in range(size):
        for result, wanted in zip(torch.load(tmp_path / f"{rank}.pt"), expected, strict=True):
            assert max_error(result, wanted) < 1e-4
            assert result[:, :, 0].std() > 0


def test_heads_that_cannot_be_split_are_refused(tmp_path):
    mp.spawn(refuse, (free_port(), tmp_path), nprocs=3)


def test_bands_cover_all_and_differ_by_one():
    assert choose_bands([21, 30, 52], 8) == (1, [4, 4, 4, 4, 4, 4, 3, 3])
    assert choose_bands([21, 45, 80], 8) == (2, [10] * 8)
    assert choose_bands([3, 5, 3], 4) == (1, [2, 1, 1, 1])
    with pytest.raises(ValueError, match="3 x 2 tokens cannot be split among 4"):
        choose_bands([3, 3, 2], 4)


def test_the_command_line_in_two_processes(tmp_path):
    pytest.importorskip("diffusers")
    arguments = ["-m", "pusa_core", "generate", "--prompt", "a small red square", "--steps", "2", "--frames", "9"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACK)}
    several = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    sheets = []
    for name, launcher in (("one", []), ("two", several)):
        command = [sys.executable, *launcher, *arguments, "--out", str(tmp_path / f"{name}.mp4"), "--device", "cpu"]
        done = subprocess.run(command, cwd=PACK, env=environment, capture_output=True, text=True, timeout=HANGS)
        assert done.returncode == 0, done.stderr[-3000:]
        sheets.append(np.asarray(Image.open(tmp_path / f"{name}.sheet.png")).astype(int))  # not the lossy video
    assert np.abs(sheets[0] - sheets[1]).max() <= 1
