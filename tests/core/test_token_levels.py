"""A noise level for every token."""

import logging

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from pusa_core import (
    Given,
    Settings,
    euler_sample,
    fafm_loss,
    flow_sigmas,
    generate_latents,
    sigma_table,
    start_latents,
)
from pusa_core.model import modulation
from pusa_core.model.kv_cache import FrozenFrames
from pusa_core.model.modulation import LEVELS, Vectors, distinct_levels, limit_levels, offset_vectors
from pusa_core.training.objective import loss_weight
from tests.conftest import max_error
from tests.support.cached import cached_velocity

GRID = (5, 3, 4)  # tokens of the goldens' latents


def regions(batch=1):
    """Timesteps ``[B, 5, 3, 4]``: its own for every frame, and a part of the frames at three others."""
    timestep = 1000 * torch.rand(batch, 5, 1, 1).expand(batch, *GRID).clone()
    timestep[:, 1:, 1:, 2:] = 0.0
    timestep[:, 2:4, 0, 1] = 437.5
    timestep[:, 3, 2, 0] = 1000.0
    return timestep


def per_token(values):
    """``[..., h, w]`` of tokens as ``[..., H, W]`` of latents, by a matrix product."""
    rows, columns = (torch.eye(size).repeat_interleave(2, 0) for size in values.shape[-2:])
    return rows @ values @ columns.T


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    return torch.randn(2, 16, 5, 6, 8), torch.randn(2, 7, 64)


def every_token_by_itself(model, latents, timestep, context):
    """The network with each token as a frame of its own, embedded one by one: its plain per-frame path, blown up."""
    tokens = timestep.flatten(1)
    seen = []
    hooked = [lambda x, time, *rest, block=block: block(x, seen[0], *rest) for block in model.blocks]
    block_time, head_time = model.embed_time(tokens, latents.dtype)
    seen.append(block_time)
    head = model.head.register_forward_pre_hook(lambda module, args: (args[0], head_time))
    try:
        return model(latents, timestep, context, blocks=hooked)
    finally:
        head.remove()


@pytest.mark.parametrize("grad", [False, True])
def test_each_token_is_modulated_by_its_own_level(tiny_model, inputs, grad):
    model, (latents, context), timestep = tiny_model(), inputs, regions(batch=2)
    with torch.set_grad_enabled(grad):
        velocity = model(latents, timestep, context)
        expected = every_token_by_itself(model, latents, timestep, context)
    assert max_error(velocity, expected) < 1e-5
    with torch.no_grad():
        assert max_error(velocity, model(latents, timestep[..., 0, 0], context)) > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ffn_tokens", [24, None])
def test_equal_levels_within_frames_give_the_bits_of_one_per_frame(tiny_model, inputs, dtype, ffn_tokens):
    model, (latents, context) = tiny_model().to(dtype), inputs
    for block in model.blocks:
        block.ffn_tokens = ffn_tokens
    frames = 1000 * torch.rand(2, 5)
    tokens = frames[..., None, None].expand(2, *GRID)
    with torch.no_grad():
        velocities = [model(latents.to(dtype), timestep, context.to(dtype)) for timestep in (frames, tokens)]
    assert torch.equal(*velocities)


def test_a_block_takes_vectors_for_frames_or_tokens(tiny_model):
    table = torch.randn(2, 3, 1, 96)
    index = torch.tensor([[[0, 2], [1, 1]], [[3, 3], [5, 4]]])
    first, second = offset_vectors(torch.ones(1, 2, 96), Vectors(table, index))
    assert torch.equal(first.broadcast()[1, 1, 0], table[1, 2, 0] + 1)
    assert torch.equal(second.of_frames(slice(1, 2)).broadcast(), second.broadcast(slice(1, 2)))
    assert torch.equal(second.of_tokens(torch.tensor([2])).broadcast()[:, 0, 0], second.broadcast()[:, 1, 0])


def test_vectors_are_gathered_in_pieces(tiny_model, inputs, monkeypatch):
    model, (latents, context), timestep, sizes = tiny_model(), inputs, regions(batch=2), []
    with torch.no_grad():
        whole = model(latents, timestep, context)
    gather = torch.nn.functional.embedding
    monkeypatch.setattr(modulation, "PIECE", 24)
    monkeypatch.setattr(
        modulation.F, "embedding", lambda index, table: sizes.append(index[0].numel()) or gather(index, table)
    )
    for block in model.blocks:
        block.ffn_tokens = 24
    with torch.no_grad():
        assert max_error(model(latents, timestep, context), whole) < 1e-5
    assert max(sizes) == 24


def test_up_to_the_limit_levels_are_exact():
    levels = torch.rand(2, *GRID)
    levels.flatten(1)[:, : 60 - LEVELS] = levels[:, :1, :1, :1].flatten(1)
    first, others, index = distinct_levels(levels)
    assert torch.equal(torch.cat((first, others), dim=1).flatten()[index].view_as(levels), levels)


def test_more_levels_are_merged_and_that_is_said_once(caplog):
    modulation._report.cache_clear()
    levels = torch.linspace(0, 1, 400).view(1, 20, 20)
    with caplog.at_level(logging.WARNING):
        limited = limit_levels(limit_levels(levels))
        assert torch.equal(limit_levels(levels), limited)
    assert [record.getMessage() for record in caplog.records] == [
        f"399 noise levels within frames; {LEVELS} are told apart: neighbours are merged"
    ]
    assert len(limited.unique()) == LEVELS + 1
    assert (limited - levels).abs().max() < 0.5 / (LEVELS - 1) + 1e-3
    assert limited[0, 0, 0] == 0 and limited[0, 0, 1] == levels[0, 0, 1] and limited[0, -1, -1] == 1  # the ends stay


def test_the_network_tells_the_levels_of_every_band_of_frames_apart(tiny_model):
    """A ramp over 24 frames, of which an area is at 16 other levels: the lower band does not begin on the ramp."""
    levels = torch.linspace(0, 0.5, 24)[:, None, None].repeat(1, 8, 8)
    levels[:, 4:] = 0.6 + torch.arange(LEVELS).repeat(24 * 2).view(24, 4, 8) / 64
    levels[:, 7, 4:] = levels[:, 0, 4:]
    levels = limit_levels(levels)
    assert len(levels.unique()) == 24 + LEVELS
    model = tiny_model()
    vectors, _ = model.embed_time_of_tokens(1000 * levels[None, :, 4:], torch.float32)
    own = model.embed_time(1000 * levels[:, 4:].reshape(1, -1), torch.float32)[0]
    assert max_error(vectors.broadcast().flatten(1, 2), own) < 1e-5


def test_the_sampler_ends_in_the_truth_for_any_levels():
    """With a network that knows the exact velocity, whatever each token's level."""
    torch.manual_seed(0)
    truth, noise = torch.randn(2, 1, 16, 5, 6, 8).unbind(0)
    levels = torch.rand(GRID)
    levels[1, 1:], levels[2, 0] = 0.0, 1.0
    table = sigma_table(flow_sigmas(7), levels)
    assert torch.equal(table, flow_sigmas(7).view(-1, 1, 1, 1) * levels)

    def velocity(latents, timesteps):
        sigma = per_token(timesteps / 1000)[None, None]
        return torch.where(sigma > 0, (latents - truth) / sigma, 0.0)

    denoised = []
    start = start_latents(noise, truth, table[0])
    out = euler_sample(velocity, start, table, callback=lambda step, each, latents: denoised.append(each))
    assert max_error(out, truth) < 1e-5 and max(max_error(each, truth) for each in denoised) < 1e-5
    kept = per_token((levels == 0).float()).bool().expand_as(truth)
    assert kept.any() and torch.equal(start[kept], truth[kept]) and torch.equal(out[kept], truth[kept])
    assert max_error(start, truth) > 1


def test_sampling_with_equal_levels_in_frames_gives_the_bits_of_one_per_frame(tiny_model, inputs):
    latents, context = (each[:1] for each in inputs)
    levels, settings = torch.tensor([0.0, 1.0, 0.3, 1.0, 1.0]), Settings(64, 48, 17, steps=3, cfg=1.0)
    results = [
        generate_latents(tiny_model(), Given(latents, each), context, None, settings)
        for each in (levels, levels[:, None, None].expand(GRID))
    ]
    assert torch.equal(*results)


@pytest.mark.parametrize("shape", [(3, 5, 3, 3), (3, 4, 3, 4), (3, 5, 12)])
def test_tables_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"\[steps \+ 1, 5, 3, 4\] for a level per token"):
        euler_sample(lambda x, t: x, torch.zeros(1, 16, 5, 6, 8), torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 5, 3, 3), (1, 4, 3, 4)])
def test_timesteps_that_do_not_fit_are_refused(tiny_model, shape):
    with pytest.raises(ValueError, match=r"one for each patch of 2 x 2 latents, \[1, 5, 3, 4\]"):
        tiny_model()(torch.zeros(1, 16, 5, 6, 8), torch.zeros(shape), torch.zeros(1, 4, 64))


@pytest.mark.parametrize("weighting", ["none", "bell", "reference"])
def test_the_loss_of_equal_levels_is_that_of_one_per_frame(tiny_model, inputs, weighting):
    model, (latents, context) = tiny_model(), inputs
    noise, sigmas = torch.randn_like(latents), torch.rand(2, 5)
    with torch.no_grad():
        losses = [
            fafm_loss(model, latents, context, noise, each, weighting=weighting)
            for each in (sigmas, sigmas[..., None, None].expand(2, *GRID))
        ]
    assert torch.allclose(*losses, rtol=1e-6)


def test_each_token_is_noised_told_and_weighted_by_its_own_level(inputs):
    latents, noise = inputs[0], torch.randn_like(inputs[0])
    sigmas, seen = torch.rand(2, *GRID), []

    def network(mixed, timestep, context):
        seen.extend((mixed, timestep))
        return torch.zeros_like(mixed)

    loss = fafm_loss(network, latents, None, noise, sigmas, weighting="bell")
    sigma = per_token(sigmas)[:, None]
    assert max_error(seen[0], (1 - sigma) * latents + sigma * noise) < 1e-6 and torch.equal(seen[1], 1000 * sigmas)
    assert torch.allclose(loss, ((noise - latents) ** 2 * loss_weight(sigma)).mean(), rtol=1e-5)


def test_sigmas_that_do_not_fit_are_refused(inputs):
    with pytest.raises(ValueError, match=r"\[2, 5, 3, 4\] for a level per token"):
        fafm_loss(None, inputs[0], None, inputs[0], torch.zeros(2, 5, 6, 8))


LEVELS_WITH_GIVEN = torch.ones(GRID)
LEVELS_WITH_GIVEN[0] = 0.0
LEVELS_WITH_GIVEN[1:4, :, :2] = 0.0
LEVELS_WITH_GIVEN[4, 0, 0] = 0.3


def sample(model, inputs, refresh):
    latents, context = inputs
    table = sigma_table(flow_sigmas(6), LEVELS_WITH_GIVEN)
    with torch.inference_mode():
        velocity = cached_velocity(model, context[:1], context[1:], 3.0, table, refresh)
        return euler_sample(velocity, latents, table)


def test_given_tokens_are_computed_every_so_many_steps(tiny_model, inputs):
    model, tokens = tiny_model(), []
    model.blocks[0].self_attn.register_forward_hook(lambda module, args, out: tokens.append(out.shape[1]))
    exact = sample(model, inputs, 1)
    assert set(tokens) == {60}
    tokens.clear()
    cached = sample(model, inputs, 2)
    active = 60 - 12 - 3 * 6
    assert tokens == [60, 60, active, active] * 3
    change = (exact - inputs[0]).abs().mean()
    assert 0 < (cached - exact).abs().mean() < 0.05 * change
    given = per_token((LEVELS_WITH_GIVEN == 0).float()).bool().expand_as(exact)
    assert torch.equal(cached[given], inputs[0][given])


def test_cached_keys_and_values_of_tokens_are_exact_where_nothing_has_changed(tiny_model, inputs):
    from pusa_core.model.kv_cache import KVCache

    latents, context = inputs
    model, timestep = tiny_model(), 1000 * LEVELS_WITH_GIVEN.expand(2, *GRID)
    cache = KVCache(FrozenFrames.of_table(LEVELS_WITH_GIVEN[None], 0))
    made = per_token((LEVELS_WITH_GIVEN > 0).float()).bool().expand_as(latents)
    with torch.inference_mode():
        first, second = (cache.velocity(model, model.blocks, latents, timestep, context) for _ in range(2))
    assert max_error(second[made], first[made]) < 1e-5


def test_among_processes_only_whole_frames_are_cached():
    table = LEVELS_WITH_GIVEN[None]
    assert FrozenFrames.of_table(table, 0, whole_frames=True) == FrozenFrames((0,), (1, 2, 3, 4), 0)
    assert len(FrozenFrames.of_table(table, 0).frozen) == 12 + 3 * 6


def test_a_compiled_network_has_one_graph_for_all_masks(tiny_model, inputs):
    torch._dynamo.reset()
    model, (latents, context) = tiny_model(), inputs
    compiled = torch.compile(model, backend=(counter := CompileCounter()), fullgraph=True)
    with torch.inference_mode():
        for timestep in (regions(2), torch.zeros(2, *GRID), 1000 * torch.rand(2, *GRID)):
            assert max_error(compiled(latents, timestep, context), model(latents, timestep, context)) < 1e-5
    torch._dynamo.reset()
    assert counter.frame_count == 1
