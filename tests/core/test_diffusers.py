"""A second opinion: diffusers' own Wan transformer, fed one timestep per token, on the same weights."""

import pytest
import torch

from benchmarks.variants import build_diffusers
from tests.conftest import max_error

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def models(demo_model):
    model = demo_model()
    return model, build_diffusers(model.config, model.state_dict())


def forward_both(models, timestep):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, 21, 8, 8, generator=generator)
    context = torch.randn(1, 24, 4096, generator=generator)
    with torch.no_grad():
        return [model(latents, timestep, context) for model in models]


def test_scalar_timestep_equals_diffusers(models):
    ours, theirs = forward_both(models, torch.tensor([643.0]))
    assert max_error(ours, theirs) < 1e-4


def test_unequal_timesteps_equal_diffusers(models):
    timestep = torch.full((1, 21), 800.0)
    timestep[0, 0], timestep[0, 20] = 0.0, 240.0
    ours, theirs = forward_both(models, timestep)
    assert max_error(ours, theirs) < 1e-4
