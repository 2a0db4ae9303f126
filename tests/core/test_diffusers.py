"""A second opinion: diffusers' own Wan transformer, fed one timestep per token, on the same weights."""

import pytest
import torch

from tests.conftest import max_error

diffusers = pytest.importorskip("diffusers")


def diffusers_twin(model):
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    config = model.config
    twin = diffusers.WanTransformer3DModel(
        patch_size=config.patch_size,
        num_attention_heads=config.num_heads,
        attention_head_dim=config.head_dim,
        in_channels=config.in_dim,
        out_channels=config.out_dim,
        text_dim=config.text_dim,
        freq_dim=config.freq_dim,
        ffn_dim=config.ffn_dim,
        num_layers=config.num_layers,
        eps=config.eps,
        rope_max_seq_len=64,
    )
    twin.load_state_dict(convert_wan_transformer_to_diffusers(dict(model.state_dict())))
    return twin.eval()


@pytest.fixture(scope="module")
def models(demo_model):
    model = demo_model()
    return model, diffusers_twin(model)


def forward_both(models, timestep):
    model, twin = models
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, 21, 8, 8, generator=generator)
    context = torch.randn(1, 24, 4096, generator=generator)
    with torch.no_grad():
        ours = model(latents, timestep, context)
        tokens = timestep if timestep.ndim == 1 else timestep.repeat_interleave(16, dim=1)
        theirs = twin(latents, tokens, context).sample
    return ours, theirs


def test_scalar_timestep_equals_diffusers(models):
    ours, theirs = forward_both(models, torch.tensor([643.0]))
    assert max_error(ours, theirs) < 1e-4


def test_unequal_timesteps_equal_diffusers(models):
    timestep = torch.full((1, 21), 800.0)
    timestep[0, 0], timestep[0, 20] = 0.0, 240.0
    ours, theirs = forward_both(models, timestep)
    assert max_error(ours, theirs) < 1e-4
