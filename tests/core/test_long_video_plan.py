"""A video of any length: prompts, hops, takes and the keys of scenes."""

from dataclasses import replace

import pytest

from pusa_core.sampling.extend import LongVideo, Take, make_scenes, parse_takes
from pusa_core.sampling.long_video import Past
from pusa_core.sampling.plan import Hop, Timeline, parse_prompts, plan_hops, split_prompts
from pusa_core.sampling.windows import (
    CHUNK,
    ROLLING,
    Recipe,
    recipe_of,
)
from tests.support.recorder import SETTINGS, WINDOW, Recorder, some

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
