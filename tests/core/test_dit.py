"""The DiT against the public reference's numbers."""

import pytest
import torch

from pusa_core import WanConfig, WanModel
from tests.conftest import max_error

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def forward(golden):
    return golden("dit_forward")


@pytest.mark.parametrize("t", [0, 147, 500, 999])
def test_scalar_timestep_is_the_released_network(tiny_model, forward, t):
    with torch.no_grad():
        velocity = tiny_model()(forward["x"], torch.tensor([float(t)]), forward["context"])
    assert max_error(velocity, forward[f"t{t}.wan21_scalar"]) < TOLERANCE


@pytest.mark.parametrize("t", [0, 147, 500, 999])
def test_equal_timesteps_give_the_bits_of_the_scalar(tiny_model, forward, t):
    model = tiny_model()
    with torch.no_grad():
        scalar = model(forward["x"], torch.tensor([float(t)]), forward["context"])
        vector = model(forward["x"], torch.full((1, 5), float(t)), forward["context"])
    assert torch.equal(scalar, vector)


@pytest.mark.parametrize("case", ["v_i2v", "v_mixed", "v_startend"])
def test_unequal_timesteps_match_the_reference(tiny_model, forward, case):
    with torch.no_grad():
        velocity = tiny_model()(forward["x"], forward[f"{case}.timestep"], forward["context"])
    assert max_error(velocity, forward[f"{case}.pusa"]) < TOLERANCE


def test_batch_of_two_different_timestep_vectors(tiny_model, forward):
    with torch.no_grad():
        velocity = tiny_model()(forward["batch2.x"], forward["batch2.timestep"], forward["batch2.context"])
    assert max_error(velocity, forward["batch2.pusa"]) < TOLERANCE


def test_each_block_matches_the_reference(tiny_model, forward):
    model, seen = tiny_model(), []
    for block in model.blocks:
        block.register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        model(forward["x"], forward["v_mixed.timestep"], forward["context"])
    for index, out in enumerate(seen):
        assert max_error(out, forward[f"v_mixed.block{index}"]) < TOLERANCE


def test_time_embedding_matches_the_reference(tiny_model, forward):
    from pusa_core.model.dit import sinusoidal_embedding

    sinusoid = sinusoidal_embedding(forward["v_mixed.timestep"], 256)
    assert max_error(sinusoid, forward["v_mixed.sinusoid"]) < TOLERANCE
    assert max_error(tiny_model().time_embedding(sinusoid), forward["v_mixed.time_embedding"]) < TOLERANCE


def test_positions_can_be_shifted_but_only_their_distances_matter(tiny_model):
    model, latents, context = tiny_model(), torch.randn(1, 16, 3, 4, 10), torch.randn(1, 4, 64)
    arguments = latents, torch.tensor([500.0]), context
    plain = model(*arguments)
    assert max_error(model(*arguments, rope_axes=((1.0, 3.0), (1.0, -2.0), (1.0, 7.5))), plain) < TOLERANCE
    assert max_error(model(*arguments, rope_axes=((0.5, 0.0), (1.0, 0.0), (1.0, 0.0))), plain) > 1e-3


def test_config_is_read_from_the_weights(golden):
    config = WanConfig.from_state_dict(golden("dit_tiny"), num_heads=4)
    assert config == WanConfig(dim=96, ffn_dim=192, num_heads=4, num_layers=3, text_dim=64)


@pytest.mark.parametrize(
    ("shape", "timestep", "context", "message"),
    [
        ((1, 15, 5, 6, 8), (1,), (1, 4, 64), "16"),
        ((1, 16, 5, 7, 8), (1,), (1, 4, 64), "divisible by 16"),
        ((1, 16, 5, 6, 8), (1, 4), (1, 4, 64), r"\[1, 5\]"),
        ((2, 16, 5, 6, 8), (1,), (2, 4, 64), r"\[2\]"),
        ((1, 16, 5, 6, 8), (1,), (1, 4, 32), "64"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(tiny_model, shape, timestep, context, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(torch.zeros(shape), torch.zeros(timestep), torch.zeros(context))


def test_released_sizes_have_the_released_parameter_counts():
    large = WanModel(WanConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=40), device="meta")
    assert sum(parameter.numel() for parameter in large.parameters()) == 14_288_491_584


def test_a_model_used_for_inference_can_still_be_trained(tiny_model):
    model, latents, context = tiny_model(), torch.randn(1, 16, 3, 4, 10), torch.randn(1, 4, 64)
    with torch.inference_mode():
        model(latents, torch.tensor([500.0]), context)
    model(latents, torch.tensor([500.0]), context).sum().backward()
    assert model.patch_embedding.weight.grad is not None


def test_with_and_without_autograd_alike(tiny_model, forward):
    """Without autograd, results are written over their operands; with it they are not."""
    model, arguments = tiny_model(), (forward["batch2.x"], forward["batch2.timestep"], forward["batch2.context"])
    before = [argument.clone() for argument in arguments]
    with torch.no_grad():
        velocity = model(*arguments)
    assert max_error(model(*arguments), velocity) < 1e-5
    assert all(torch.equal(*pair) for pair in zip(arguments, before, strict=True))


@pytest.mark.parametrize("tokens", [1, 24, None])
def test_the_feed_forward_layer_in_parts(tiny_model, forward, tokens):
    model, arguments = tiny_model(), (forward["batch2.x"], forward["batch2.timestep"], forward["batch2.context"])
    sizes = []
    model.blocks[0].ffn[0].register_forward_hook(lambda module, args, out: sizes.append(out.shape[1]))
    for block in model.blocks:
        block.ffn_tokens = tokens
    with torch.no_grad():
        assert max_error(model(*arguments), forward["batch2.pusa"]) < TOLERANCE
    assert sizes == {1: [12] * 5, 24: [24, 24, 12], None: [60]}[tokens]


def test_in_half_precision_the_angles_keep_full_precision(tiny_model):
    """Far from the first frame, bf16 angles would be off by more than a radian."""
    from pusa_core.model.rope import PLAIN, apply_rope, rope_table

    grid = (300, 1, 1)
    table = rope_table(128, grid, torch.device("cpu"), PLAIN)
    x = torch.randn(1, 300, 2, 128).bfloat16()
    exact = apply_rope(x.float(), table)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            assert max_error(apply_rope(x.clone(), table).float(), exact) < 0.02


def test_positions_beyond_the_table_are_refused(tiny_model):
    with pytest.raises(ValueError, match="too large"):
        tiny_model()(torch.zeros(1, 16, 1, 2, 2100), torch.zeros(1), torch.zeros(1, 4, 64))
