"""A video of any length: windows, their tables, and what they are given."""

from dataclasses import replace

import pytest
import torch

from pusa_core import Given, flow_sigmas, generate_latents
from pusa_core.sampling.colour import ChannelStatistics
from pusa_core.sampling.denoise import denoise
from pusa_core.sampling.extend import LongVideo, make_scenes, network_calls
from pusa_core.sampling.long_video import Made, Past, make_hop
from pusa_core.sampling.plan import Timeline, parse_prompts, plan_hops
from pusa_core.sampling.windows import (
    CHUNK,
    ROLLING,
    calls_of_shift,
    rolling_table,
    warm_up_table,
)
from tests.conftest import max_error
from tests.support.recorder import SETTINGS, WINDOW, Recorder, some

# tables


@pytest.mark.parametrize(("width", "block", "steps"), [(16, 4, 4), (16, 4, 8), (18, 3, 10), (16, 16, 6), (16, 1, 16)])
def test_rolling_tables_join_and_take_every_frame_from_noise_to_clean(width, block, steps):
    calls = calls_of_shift(width, block, steps)
    table = rolling_table(torch.tensor([0.0, 0.2]), width, block, calls, 5.0)
    flight = table[:, 2:]
    assert (table[:, :2] == torch.tensor([0.0, 0.2])).all()  # the context does not move
    assert (flight[-1, :block] == 0).all() and (flight[0, -block:] == 1).all()
    assert torch.allclose(flight[-1, block:], flight[0, :-block], atol=1e-6)  # where the block before it was
    assert (flight.diff(dim=0) < 0).all()
    warm_up = warm_up_table(torch.tensor([0.0, 0.2]), width, block, calls, 5.0)
    assert (warm_up[0, 2:] == 1).all() and max_error(warm_up[-1], table[0]) < 1e-6
    assert (warm_up.diff(dim=0) <= 0).all()
    assert calls * width // block >= steps  # the network sees every frame at least so often


def test_blocks_of_four_and_one_call_are_the_table_of_the_4_step_loras():
    table = rolling_table(torch.zeros(5), 16, 4, 1, 5.0)
    assert calls_of_shift(16, 4, 4) == 1
    assert max_error(table[0, 5::4].flip(0), flow_sigmas(4)[:-1]) < 1e-6
    assert max_error(table[1, 5::4].flip(0), flow_sigmas(4)[1:]) < 1e-6


# what a window is given


def test_a_chunk_is_what_generate_latents_makes_of_the_same_given_frames(tiny_model):
    model, settings = tiny_model(), replace(SETTINGS, cfg=3.0, steps=3)
    context, negative = torch.randn(2, 1, 7, 64).unbind(0)
    past = Past.start(some(4), WINDOW)
    recipe = replace(CHUNK, match_colour=False, fade=0)

    def sample(window, prompt):
        return denoise(model, window.start, window.table, context, negative, settings)

    made = make_hop(past, recipe, settings, 7, "", 0, sample)
    given = Given.empty(some(1), WINDOW).place(some(4)[:, :, :1], 0)
    given = given.place(some(4)[:, :, 2:3], 1, 0.1).place(some(4)[:, :, 3:], 2, 0.4)
    expected = generate_latents(model, given, context, negative, replace(settings, seed=7))
    assert torch.equal(made.latents, expected[:, :, 3:])


def test_windows_are_given_the_anchor_and_the_newest_latents_as_they_were_handed_over():
    network, past = Recorder(), Past.start(some(5), WINDOW)
    made = make_hop(past, CHUNK, SETTINGS, 0, "", 0, network)
    assert torch.equal(network.windows[0].given[:, :, :3], some(5)[:, :, [0, 3, 4]])
    assert network.windows[0].table[0].tolist() == pytest.approx([0, 0.1, 0.4] + [1] * 18)
    past = past.followed_by(made, 10)
    make_hop(past, CHUNK, SETTINGS, 1, "", 0, network)
    expected = torch.cat((some(5)[:, :, :1], made.latents[:, :, 8:10]), dim=2)
    assert torch.equal(network.windows[1].given[:, :, :3], expected)
    assert not torch.equal(network.windows[0].noise, network.windows[1].noise)


@pytest.mark.parametrize(
    ("given", "recipe", "levels"),
    [
        (0, CHUNK, []),
        (1, CHUNK, [0]),
        (1, replace(CHUNK, anchor=False), [0]),
        (2, CHUNK, [0, 0.4]),
        (9, CHUNK, [0, 0.1, 0.4]),
        (9, replace(CHUNK, anchor=False), [0.1, 0.4]),
        (9, replace(CHUNK, history=4), [0, 0.1, 0.2, 0.3, 0.4]),
        (9, replace(CHUNK, history=0), [0]),
    ],
)
def test_the_context_is_what_there_is(given, recipe, levels):
    past = Past.start(some(given), WINDOW)
    latents, found = past.context(recipe)
    assert found.tolist() == pytest.approx(levels) and latents.shape[2] == len(levels)
    assert recipe.context_after(given) == len(levels)


def test_only_the_newest_latents_are_held():
    past = Past.start(some(30), WINDOW)
    for seed in range(5):
        past = past.followed_by(Made(some(18, seed)))
        assert past.newest.shape[2] == WINDOW
        assert past.newest.untyped_storage().nbytes() == past.newest.numel() * 4  # no view of something longer
    assert past.length == 30 + 5 * 18


def test_matched_latents_have_the_statistics_of_the_first_scene():
    first, later = some(21), some(18, 1) * 3 + 2
    matched = ChannelStatistics.of(first).match(later)
    for channel in range(16):
        assert matched[:, channel].mean().item() == pytest.approx(first[:, channel].mean().item(), abs=1e-5)
        assert matched[:, channel].std().item() == pytest.approx(first[:, channel].std().item(), rel=1e-2)
    flat = torch.full((1, 16, 3, 2, 2), 2.0)  # a channel without any deviation stays finite
    assert ChannelStatistics.of(first).match(flat).isfinite().all()


def test_the_first_scene_of_a_picture_is_the_reference_and_not_matched_itself():
    network, past = Recorder(), Past.start(some(1), WINDOW)
    made = make_hop(past, CHUNK, SETTINGS, 0, "", 0, network)
    assert max_error(made.latents, torch.full_like(made.latents, 0.5)) < 1e-5
    past = past.followed_by(made)
    assert torch.equal(past.reference.mean, torch.cat((some(1), made.latents), 2).mean((2, 3, 4), keepdim=True))


# rolling


def test_a_rolling_window_makes_what_a_perfect_network_shows():
    network, past = Recorder(), Past.start(some(9), WINDOW)
    recipe = replace(ROLLING, match_colour=False)
    made = make_hop(past, recipe, SETTINGS, 0, "", 3, network)
    assert made.latents.shape[2] == 12 and made.in_flight.shape[2] == 16
    assert max_error(made.latents, torch.full_like(made.latents, 0.5)) < 1e-5
    assert [len(window.table) - 1 for window in network.windows] == [3, 1, 1, 1]  # the warm-up, then a call a block
    assert torch.equal(network.windows[2].given[:, :, 1:5].mean((0, 1, 3, 4)) > 0.1, torch.ones(4, dtype=torch.bool))


def test_rolling_in_two_hops_goes_on_where_the_first_ended():
    """The frames in flight are handed over, and the network is called as often as in one hop."""
    recipe, past = replace(ROLLING, match_colour=False, levels=(0.0, 0.0)), Past.start(some(9), WINDOW)
    network = Recorder()
    first = make_hop(past, recipe, SETTINGS, 0, "", 2, network)
    calls = len(network.windows)
    second = make_hop(past.followed_by(first), recipe, SETTINGS, 1, "", 2, network)
    assert len(network.windows) - calls == 2  # no second warm-up
    assert torch.equal(network.windows[calls].given[:, :, 5:], first.in_flight)
    assert second.latents.shape[2] == 8


def test_rolling_begins_with_a_chunk_where_the_context_is_not_full():
    hops = plan_hops(Timeline(1, 161, 16), parse_prompts(["x"]), ROLLING, WINDOW, 1)
    assert [(hop.count, hop.blocks) for hop in hops] == [(20, 0), (16, 4), (4, 1)]
    video = LongVideo(SETTINGS, ROLLING, hops, {}, {})
    network = Recorder()
    scenes = list(make_scenes(video, Past.start(some(1), WINDOW), network, None))
    assert sum(scene.latents.shape[2] for scene in scenes) == 40
    assert network_calls(video) == [4, 3 + 4, 1]
    assert sum(len(window.table) - 1 for window in network.windows) == sum(network_calls(video))


# history guidance


def test_history_guidance_of_one_is_none_and_above_follows_the_history_more(tiny_model):
    model, settings = tiny_model(), replace(SETTINGS, steps=2)
    context = torch.randn(1, 7, 64, generator=torch.Generator().manual_seed(0))
    past = Past.start(some(4), WINDOW)

    def made(weight):
        recipe = replace(CHUNK, match_colour=False, history_guidance=weight)

        def sample(window, prompt):
            history = window.history(recipe)
            return denoise(model, window.start, window.table, context, None, settings, history=history)

        return make_hop(past, recipe, settings, 7, "", 0, sample).latents

    plain, strong, none = made(1.0), made(2.0), made(0.0)
    middle = (strong + none) / 2
    assert not torch.equal(plain, strong)
    assert max_error(middle, plain) < 0.2 * max_error(strong, plain)  # linear but for what the steps feed back
    window = make_hop  # a window without context has no history to follow
    assert window(Past.start(some(0), WINDOW), replace(CHUNK, history_guidance=3.0), settings, 0, "", 0, Recorder())


# seams and colours


def test_what_a_window_makes_of_the_newest_latent_fades_out_over_the_seam():
    past, lifted = Past.start(some(4), WINDOW), 0.5

    def sample(window, prompt):
        return window.given + lifted  # the history too, which is shown as it was

    plain, faded = (
        make_hop(past, replace(CHUNK, match_colour=False, fade=fade), SETTINGS, 0, "", 0, sample).latents
        for fade in (0, 3)
    )
    ramp = (faded - plain).mean(dim=(0, 1, 3, 4))
    assert torch.allclose(ramp[:4], -lifted * torch.tensor([0.75, 0.5, 0.25, 0]), atol=1e-6)
    assert torch.equal(faded[:, :, 3:], plain[:, :, 3:])


def test_a_picture_gives_the_scenes_the_colours_that_it_has_when_it_stands_still():
    still = 0.3 * some(2) + 2
    past = Past.start(some(1), WINDOW, still)

    def sample(window, prompt):
        return torch.randn_like(window.given)

    made = make_hop(past, replace(CHUNK, fade=0), SETTINGS, 0, "", 0, sample).latents
    for own, other in zip(moments(made), moments(still), strict=True):
        assert torch.allclose(own, other, atol=1e-4)
    assert past.followed_by(Made(made)).reference is past.reference


def moments(latents):
    return latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4), correction=0)
