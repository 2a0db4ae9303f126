"""An option of the trainer stands in one place, its dataclass field; flag, check and node follow from there."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from pusa_core.cli.train import build_parser
from pusa_core.training import config as training_config
from pusa_core.training.config import TrainOptions, option_fields
from pusa_core.training.config_file import parse_config
from pusa_core.training.options import NodeInput, Option, about, check_values, choices, node_inputs, option, usage
from tests.support.training_videos import required_options

LISTING = Path(__file__).parents[2] / "tools" / "workflows" / "nodes.json"


def published_inputs():
    """Names of the inputs of Pusa Train LoRA in the order that stored graphs rely on."""
    return [name for _, name, *_ in json.loads(LISTING.read_text())["PusaTrainLora"]["inputs"]]


@pytest.fixture
def with_throwaway(monkeypatch):
    """The training command with one more option, in front of all others of its section."""

    @dataclass(frozen=True)
    class First:
        throwaway: int = option("of nothing", default=3, ge=1, le=9, node=NodeInput(len(published_inputs())))

    @dataclass(frozen=True)
    class WithThrowaway(TrainOptions, First):
        pass

    monkeypatch.setitem(training_config.SECTIONS, "train", WithThrowaway)


def test_every_option_explains_itself_and_its_choices():
    for name, entry in option_fields().items():
        assert about(entry).help.strip(), name
        assert all(choice in about(entry).help for choice in choices(entry)), name


def test_every_option_has_its_published_place_on_the_node():
    published = published_inputs()
    inputs = list(node_inputs(option_fields()))
    assert {name: node.place for name, _, node in inputs} == {name: published.index(name) for name, _, _ in inputs}


def test_an_option_of_the_trainer_that_graphs_do_not_know_comes_last(with_throwaway):
    before, (name, option_name, node) = published_inputs(), list(node_inputs(option_fields()))[-1]
    assert (name, option_name, node.place) == ("throwaway", "train.throwaway", len(before))


def test_a_new_option_is_a_flag_and_a_toml_key_and_is_checked(with_throwaway, tmp_path):
    assert list(option_fields()).index("train.throwaway") < list(option_fields()).index("train.mode")
    assert "--train.throwaway" in build_parser().format_help()
    assert "of nothing (1 to 9; default: 3)" in " ".join(build_parser().format_help().split())
    required = required_options(tmp_path)
    assert parse_config({}, required).train.throwaway == 3
    assert parse_config({}, required | {"train.throwaway": "4"}).train.throwaway == 4
    assert parse_config({"train": {"throwaway": 5}}, required).train.throwaway == 5
    with pytest.raises(ValueError, match=r"train\.throwaway is 10; use 1 to 9"):
        parse_config({}, required | {"train.throwaway": "10"})


@pytest.mark.parametrize(
    ("known", "inside", "outside", "words"),
    [
        ({"ge": 1}, (1, 5.5, 10**400), (0, -1, float("inf"), float("nan")), "at least 1"),
        ({"ge": 0, "le": 2}, (0, 2), (-0.1, 2.1), "0 to 2"),
        ({"ge": 0, "lt": 1}, (0, 0.999), (-0.1, 1), "0 to below 1"),
        ({"gt": 0, "le": 0.1}, (1e-9, 0.1), (0, 0.2), "above 0 to 0.1"),
        ({"gt": 0}, (1e-9, 1e9), (0, -1, float("nan")), "above 0"),
        ({"le": 0}, (0, -5), (1,), "at most 0"),
        ({"lt": 0}, (-5,), (0,), "below 0"),
        ({}, (-1e9, "text", float("inf")), (), ""),
    ],
)
def test_a_range_allows_what_its_words_say(known, inside, outside, words):
    tested = Option("of a test", **known)
    assert all(tested.allows(value) for value in inside)
    assert not any(tested.allows(value) for value in outside)
    assert tested.limits == words


@dataclass(frozen=True)
class Shown:
    needed: str = option("a file")
    mode: Literal["a", "b"] = option("a or b", default="a")
    pair: tuple[float, ...] = option("two numbers", default=(0.5, 1.0))
    folder: str = option("a folder", default="")
    more: tuple[str, ...] = option("more of them", default=())
    on: bool = option("a switch", default=True)
    rate: float = option("a rate", default=1.0, gt=0, fix="1 or 2")


def test_the_help_of_a_flag_tells_range_and_default_as_a_flag_has_them():
    shown = {name: usage(entry) for name, entry in Shown.__dataclass_fields__.items()}
    assert shown == {
        "needed": "a file",
        "mode": "a or b (default: a)",
        "pair": "two numbers (default: [0.5, 1.0])",
        "folder": "a folder",
        "more": "more of them",
        "on": "a switch (default: true)",
        "rate": "a rate (above 0; default: 1.0)",
    }


def test_a_value_is_refused_with_the_fix_that_the_option_proposes():
    check_values("shown", Shown("x"))
    with pytest.raises(ValueError, match=r"shown\.rate is 0; use 1 or 2"):
        check_values("shown", Shown("x", rate=0))
    with pytest.raises(ValueError, match=r'shown\.mode is "c"; choose one of a, b'):
        check_values("shown", Shown("x", mode="c"))
