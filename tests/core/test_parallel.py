"""One video in several processes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from safetensors.torch import load_file

from demo.comfyui import PACK, free_port
from pusa_core import WanConfig, WanModel, euler_sample, flow_sigmas, guided_velocity, sigma_table
from pusa_core.parallel import SequenceParallel, choose_bands
from tests.conftest import GOLDENS, max_error

SIZES = ((3, 6, 8), (3, 6, 10), (3, 10, 6))  # latents; 10 is 5 tokens, which no number of processes divides


def run(model):
    """Velocities with unequal timesteps, then sampled latents with and without frames left out."""
    torch.manual_seed(0)
    results = []
    with torch.inference_mode():
        for size in SIZES:
            latents, context = torch.randn(2, 16, *size), torch.randn(2, 7, 64)
            timestep = torch.tensor([[0.0, 300.0, 1000.0], [800.0, 20.0, 500.0]])
            results.append(model(latents, timestep, context))
            results.append(model(latents, timestep, context, rope_axes=((1.0, 0.0), (0.5, 2.0), (2.0, 1.0))))
            velocity = guided_velocity(model, context[:1], context[1:], 3.0)
            table = sigma_table(flow_sigmas(4), torch.tensor([0.0, 1.0, 0.3]))
            results += [euler_sample(velocity, latents, table, given_frames_refresh=k) for k in (1, 2)]
    return results


def build():
    weights = load_file(GOLDENS / "dit_tiny.safetensors")
    model = WanModel(WanConfig.from_state_dict(weights, num_heads=4))
    model.load_state_dict(weights)
    return model


def work(rank, size, port, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    torch.save(run(SequenceParallel(build())), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("size", [2, 4])
def test_several_processes_equal_one(tmp_path, size):
    mp.spawn(work, (size, free_port(), tmp_path), nprocs=size)
    expected = run(build())
    for rank in range(size):
        for result, wanted in zip(torch.load(tmp_path / f"{rank}.pt"), expected, strict=True):
            assert max_error(result, wanted) < 1e-4
            assert result[:, :, 0].std() > 0


def refuse(rank, port, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=3)
    with pytest.raises(ValueError, match="4 heads cannot be split among 3 processes; use 1, 2, 4"):
        SequenceParallel(build())
    dist.destroy_process_group()


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
        done = subprocess.run(command, cwd=PACK, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        sheets.append(np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int))  # not the lossy video
    assert np.abs(sheets[0] - sheets[1]).max() <= 1
