"""What the processes of test_parallel.py run: a module that they can import whatever the pack's folder is called."""

import os

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from pusa_core import WanConfig, WanModel, euler_sample, flow_sigmas, sigma_table
from pusa_core.model.parallel import SequenceParallel
from tests.conftest import GOLDENS
from tests.support.cached import cached_velocity

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
            tokens = torch.tensor([0.0, 1.0, 0.3])[:, None, None].expand(3, size[1] // 2, size[2] // 2).clone()
            tokens[1:, 1:, 2:] = 0.0
            results.append(model(latents, 1000 * tokens.expand(2, *tokens.shape), context))
            for levels, refresh in ((tokens[:, 0, 0], 1), (tokens[:, 0, 0], 2), (tokens, 1), (tokens, 2)):
                table = sigma_table(flow_sigmas(4), levels)
                velocity = cached_velocity(model, context[:1], context[1:], 3.0, table, refresh, whole_frames=True)
                results.append(euler_sample(velocity, latents, table))
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


def refuse(rank, port, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=3)
    with pytest.raises(ValueError, match="4 heads cannot be split among 3 processes; use 1, 2, 4"):
        SequenceParallel(build())
    dist.destroy_process_group()
