"""Given frames that are not computed at every step."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from pusa_core import euler_sample, flow_sigmas, guided_velocity, sigma_table
from pusa_core.model.kv_cache import FrozenFrames, KVCache
from tests.conftest import max_error
from tests.support.cached import cached_velocity

LEVELS = torch.tensor([0.0, 1.0, 0.0, 0.3, 1.0])


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    return torch.randn(2, 16, 5, 6, 8), torch.randn(1, 7, 64), torch.randn(1, 7, 64)


def sample(model, inputs, refresh, steps=6, cfg=3.0, levels=LEVELS):
    """Sampled latents, and the number of tokens that the blocks computed in each of their passes."""
    latents, context, negative = inputs
    tokens = []
    hook = model.blocks[0].self_attn.register_forward_hook(lambda module, args, out: tokens.append(out.shape[1]))
    table = sigma_table(flow_sigmas(steps), levels)
    with torch.inference_mode():
        out = euler_sample(cached_velocity(model, context, negative, cfg, table, refresh), latents, table)
    hook.remove()
    return out, tokens


@pytest.mark.parametrize(
    ("refresh", "frames"),
    [(1, [5, 5, 5, 5, 5, 5]), (2, [5, 3, 5, 3, 5, 3]), (4, [5, 3, 3, 3, 5, 3]), (0, [5, 3, 3, 3, 3, 3])],
)
def test_given_frames_are_computed_every_so_many_steps(tiny_model, inputs, refresh, frames):
    out, computed = sample(tiny_model(), inputs, refresh)
    assert computed == [12 * count for count in frames for _ in range(2)]  # prompt and negative prompt
    assert torch.equal(out[:, :, [0, 2]], inputs[0][:, :, [0, 2]])


def test_every_step_is_what_it_is_without_the_option(tiny_model, inputs):
    model = tiny_model()
    table = sigma_table(flow_sigmas(6), LEVELS)
    with torch.inference_mode():
        plain = euler_sample(guided_velocity(model, *inputs[1:], 3.0), inputs[0], table)
    assert torch.equal(sample(model, inputs, 1)[0], plain)


def test_frames_left_out_change_the_result_little_but_do_change_it(tiny_model, inputs):
    exact, often, once = (sample(tiny_model(), inputs, refresh)[0] for refresh in (1, 2, 0))
    change = (exact - inputs[0]).abs().mean()
    assert 0 < (often - exact).abs().mean() < 0.05 * change
    assert 0 < (once - exact).abs().mean() < 0.1 * change


def test_kept_frames_are_exact_where_nothing_has_changed(tiny_model, inputs):
    """The same latents at the same times: keys and values are what they would be, so the others' velocity is too."""
    latents, context, _ = inputs
    model, timestep = tiny_model(), (1000 * LEVELS).expand(2, -1)
    cache = KVCache(FrozenFrames((0, 2), (1, 3, 4), 3))
    arguments = latents, timestep, context.expand(2, -1, -1)
    with torch.inference_mode():
        first, *others = (cache.velocity(model, model.blocks, *arguments) for _ in range(4))
    for velocity in others[:2]:
        assert max_error(velocity[:, :, [1, 3, 4]], first[:, :, [1, 3, 4]]) < 1e-5
    assert torch.equal(others[2], first)


@pytest.mark.parametrize("levels", [torch.ones(5), torch.zeros(5), torch.full((5,), 0.3)])
def test_without_frames_to_leave_out_all_are_computed(tiny_model, inputs, levels):
    assert set(sample(tiny_model(), inputs, 0, levels=levels)[1]) == {60}


def test_a_negative_number_is_refused(tiny_model, inputs):
    with pytest.raises(ValueError, match="given_frames_refresh is -1"):
        sample(tiny_model(), inputs, -1)


def test_a_compiled_network_shares_its_graphs_between_steps_and_prompts(tiny_model, inputs):
    """One graph to fill the cache the first time, one to fill it anew, one to use it: however many steps there are."""
    model, counts = tiny_model(), []
    for steps in (4, 8):
        plain = sample(model, inputs, 2, steps)[0]
        table = sigma_table(flow_sigmas(steps), LEVELS)
        torch._dynamo.reset()
        compiled = torch.compile(model, backend=(counter := CompileCounter()), fullgraph=True)
        with torch.inference_mode():
            out = euler_sample(cached_velocity(compiled, *inputs[1:], 3.0, table, 2), inputs[0], table)
        assert max_error(out, plain) < 1e-5
        counts.append(counter.frame_count)
    torch._dynamo.reset()
    assert counts == [3, 3]
