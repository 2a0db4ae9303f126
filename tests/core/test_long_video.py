"""A video of any length: windows, their tables, what they are given, and the plan of the hops."""

from dataclasses import replace

import pytest
import torch

from pusa_core import Given, Settings, euler_sample, flow_sigmas, generate_latents
from pusa_core.sampling.colour import ChannelStatistics
from pusa_core.sampling.denoise import denoise
from pusa_core.sampling.extend import LongVideo, Take, make_scenes, network_calls, parse_takes
from pusa_core.sampling.long_video import Made, Past, make_hop
from pusa_core.sampling.plan import Hop, Timeline, parse_prompts, plan_hops, split_prompts
from pusa_core.sampling.windows import (
    CHUNK,
    ROLLING,
    Recipe,
    calls_of_shift,
    recipe_of,
    rolling_table,
    warm_up_table,
)
from tests.conftest import max_error

WINDOW = 21
SETTINGS = Settings(16, 16, steps=4, shift=5.0, cfg=1.0)


def some(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 16, frames, 2, 2, generator=torch.Generator().manual_seed(seed))


class Recorder:
    """In place of a network: every frame flows to ``target``. Keeps the windows that it is asked for."""

    def __init__(self, target: float = 0.5) -> None:
        self.windows, self.prompts, self.target = [], [], target

    def __call__(self, window, prompt):
        self.windows.append(window)
        self.prompts.append(prompt)

        def velocity(latents, timesteps):
            sigma = (timesteps / 1000).view(1, 1, -1, 1, 1)
            return torch.where(sigma > 0, (latents - self.target) / sigma.clamp(min=1e-9), 0.0)

        return euler_sample(velocity, window.start, window.table)


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


# prompts and hops


def test_a_prompt_holds_until_the_next():
    assert parse_prompts(["a cat", " 10s: a dog", "2.5s:a cow"]) == ((0, "a cat"), (2.5, "a cow"), (10, "a dog"))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "no prompt holds from the start"),
        (["3s: a cat"], "no prompt holds from the start"),
        (["a cat", "a dog"], 'two prompts begin at 0 s: "a cat" and "a dog"'),
        (["a cat", "4s: a dog", "4.0s: a cow"], "two prompts begin at 4 s"),
    ],
)
def test_prompts_that_contradict_are_refused(texts, message):
    with pytest.raises(ValueError, match=message):
        parse_prompts(texts)


@pytest.mark.parametrize("given", [0, 1, 3, 81, 200])
def test_hops_fill_the_video_and_end_where_prompts_begin(given):
    timeline, known = Timeline(given, 480, 16), min(21, (given + 3) // 4)
    hops = plan_hops(timeline, parse_prompts(["a", "14s: b", "20s: c"]), CHUNK, WINDOW, known)
    assert [hop.number for hop in hops] == list(range(1, len(hops) + 1))
    assert [hop.start for hop in hops] == [sum(hop.count for hop in hops[:i]) for i in range(len(hops))]
    frames = {latent: timeline.first_frame(latent) / 16 for latent in range(timeline.latents)}
    for hop in hops:
        for latent in range(hop.start, hop.start + hop.count):
            seconds = frames[latent]
            if min(abs(seconds - 14), abs(seconds - 20)) > 2 / 16:
                assert hop.prompt == ("a" if seconds < 14 else "b" if seconds < 20 else "c")
    last = timeline.first_frame(timeline.latents)  # one past the end
    assert last >= 480 > timeline.first_frame(timeline.latents - 1)
    assert all(hop.count <= WINDOW - CHUNK.context_after(known + hop.start) for hop in hops)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"history": 17}, "history is 17; give 1 to 16"),
        ({"history": 0, "anchor": False}, "history is 0 without an anchor"),
        ({"levels": (0.0, 1.5)}, "noise level 1.5"),
        ({"history_guidance": float("nan")}, "history guidance is nan"),
        ({"block": 0}, "block is 0"),
        ({"mode": "spiral"}, 'the mode is "spiral"; choose one of chunk, rolling'),
    ],
)
def test_recipes_that_make_no_window_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**change)


def test_a_rolling_window_that_its_blocks_do_not_divide_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match="blocks of 1, 2, 3, 6, 9, 18"):
        plan_hops(Timeline(0, 400, 16), ((0, "x"),), replace(CHUNK, mode="rolling"), WINDOW, 0)
    with pytest.raises(ValueError, match="no room for new ones"):
        plan_hops(Timeline(0, 400, 16), ((0, "x"),), CHUNK, 3, 0)


# scenes


def test_every_hop_has_a_seed_and_the_keys_of_scenes_follow_from_all_before_them():
    hops = [Hop(number, 18 * number - 18, 18, "x") for number in (1, 2, 3, 4)]
    video = LongVideo(replace(SETTINGS, seed=5), CHUNK, hops, {}, {"given": "a"})
    assert [video.seed(hop.number) for hop in hops] == [5, 6, 7, 8]
    keys = video.keys()
    assert len(set(keys)) == 4
    assert replace(video, takes={3: Take(seed=7)}).keys() == keys  # what it has anyway
    assert [a == b for a, b in zip(replace(video, takes={3: Take(seed=9)}).keys(), keys, strict=True)] == [1, 1, 0, 0]
    cut = [*hops[:2], replace(hops[2], count=3), hops[3]]
    assert [a == b for a, b in zip(replace(video, hops=cut).keys(), keys, strict=True)] == [1, 1, 1, 0]
    for change in ({"identity": {"given": "b"}}, {"recipe": replace(CHUNK, history=1)}):
        assert not set(replace(video, **change).keys()) & set(keys)


def test_takes_change_seed_and_prompt_of_their_scene_alone():
    hops = [Hop(number, 18 * number - 18, 18, "x") for number in (1, 2, 3)]
    network = Recorder()
    video = LongVideo(SETTINGS, CHUNK, hops, {2: Take(77, "y")}, {})
    scenes = list(make_scenes(video, Past.start(some(9), WINDOW), network, None))
    assert network.prompts == ["x", "y", "x"] and [window.seed for window in network.windows] == [0, 77, 2]
    assert [scene.prompt for scene in scenes] == ["x", "y", "x"]


# seams, colours and texts


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


def test_prompts_and_takes_are_read_from_text():
    assert parse_prompts(split_prompts("a cat\nin snow\n10s: it sleeps\ndeeply")) == (
        (0.0, "a cat\nin snow"),
        (10.0, "it sleeps\ndeeply"),
    )
    takes = parse_takes("3: seed 7\n\n4: a cat jumps\n 5: Seed 9, seed of doubt")
    assert takes == {3: Take(7, None), 4: Take(None, "a cat jumps"), 5: Take(9, "seed of doubt")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "is no take of a scene"),
        ("3:", "is no take of a scene"),
        ("x: 3", "is no take of a scene"),
        ("3: seed 1\n3: seed 2", "scene 3 has two takes"),
        ("3: seed 99999999999999999999", "seed is 99999999999999999999"),
    ],
)
def test_a_take_that_cannot_be_read_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_takes(text)


def test_a_recipe_has_what_its_mode_has_where_nothing_else_is_asked_for():
    assert recipe_of("rolling", 0, "", True, True, 1.0, 4) == ROLLING
    assert recipe_of("chunk", 3, "0.1..0.3", False, True, 1.0, 4) == replace(
        CHUNK, history=3, levels=(0.1, 0.3), anchor=False
    )
    with pytest.raises(ValueError, match='the mode is "fast"; choose one of chunk, rolling'):
        recipe_of("fast", 0, "", True, True, 1.0, 4)
    with pytest.raises(ValueError, match="fade is -1"):
        replace(CHUNK, fade=-1)
