"""What a message about an option proposes is accepted, whatever it proposes."""

import re

import pytest

from pusa_core.training.config import option_fields
from pusa_core.training.config_file import parse_config
from pusa_core.training.files import check_file_name
from pusa_core.training.options import about, choices
from tests.support.training_videos import required_options

NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"


@pytest.fixture
def options(tmp_path):
    (tmp_path / "cat.png").touch()
    return required_options(tmp_path)


def refusal_of(options, flags):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        parse_config({}, options | flags)
    return str(error.value)


def proposals(option, message):
    """The changes that a message proposes, each as flags."""
    advice = message.rpartition(";")[2] if ";" in message else message
    if found := re.search(rf"use ({NUMBER}) to (below )?({NUMBER})", advice):
        low, below, high = found.groups()
        values = [low] if below else [low, high]
        return [{option: value} for value in values] + [{option: str((float(low) + float(high)) / 2)}] * bool(below)
    if found := re.search(rf"use (?:at least|at most) ({NUMBER})", advice):
        return [{option: found[1]}]
    if found := re.search(rf"use above ({NUMBER})", advice):
        return [{option: str(float(found[1]) + 1e-3)}]
    if found := re.search(r"choose one of (.+)", advice):
        return [{option: value} for value in found[1].split(", ")]
    if found := re.search(r"resize to (\d+) x (\d+)", message):
        size = f"[[{found[1]}, {found[2]}]]"
        return [{option: size}] if option == "data.buckets" else [{"data.width": found[1], "data.height": found[2]}]
    if found := re.search(r"([\w.]+); turn it on", message):
        return [{found[1]: "true"}]
    if "turn it off" in message:
        return [{option: "false"}]
    if found := re.search(r"set ([\w.]+), such as (\S+)", message):
        return [{found[1]: found[2]}]
    if found := re.search(
        rf"use ((?:{NUMBER}|\w[\w:]*)(?: \([^)]*\))?(?:(?:, | or )(?:{NUMBER}|\w[\w:]*)(?: \([^)]*\))?)*)$", advice
    ):
        return [{option: re.sub(r" \(.*\)", "", value)} for value in re.split(r", | or ", found[1])]
    raise AssertionError(f"no proposal is found in {message!r}")


def out_of_range():
    """An option and a value on each side of its range, and a choice that is none."""
    for name, entry in option_fields().items():
        known = about(entry)
        if choices(entry):
            yield name, "something else"
        for bound, beyond in ((known.ge, -1), (known.gt, 0), (known.le, 1), (known.lt, 0)):
            if bound is not None:
                yield name, str(entry.type(bound + beyond))


@pytest.mark.parametrize("option, value", sorted(set(out_of_range())))
def test_a_value_out_of_range_is_refused_with_one_that_is_accepted(options, option, value):
    message = refusal_of(options, {option: value})
    assert option in message
    for flags in proposals(option, message):
        if flags.get("train.optimizer") == "prodigy":  # it takes another learning rate, and its message says which
            flags |= proposals("train.lr", refusal_of(options, flags))[0]
        parse_config({}, {"train.p_history": "0.5"} | options | flags)  # without it there is no train.p_own_history


@pytest.mark.parametrize(
    "option, value, more",
    [
        ("data.width", "830", {}),
        ("data.height", "0", {}),
        ("data.height", "-16", {}),
        ("data.buckets", "[[64, 30]]", {}),
        ("data.frames", "80", {}),
        ("data.frames", "0", {}),
        ("train.warmup", "1001", {}),
        ("train.device", "gpu", {}),
        ("train.shift", "0", {}),
        ("train.offload_checkpoints", "true", {"train.gradient_checkpointing": "false"}),
        ("train.offload_weights", "true", {"train.gradient_checkpointing": "false"}),
        ("train.offload_weights", "true", {"train.mode": "full"}),
        ("train.swap_blocks", "2", {"train.gradient_checkpointing": "false"}),
        ("train.swap_blocks", "2", {"train.mode": "full"}),
        ("model.base_dtype", "int8", {"train.mode": "full"}),
        ("output.validate_every", "10", {}),
        ("train.p_own_history", "0.5", {}),
    ],
)
def test_advice_about_a_value_is_accepted(options, option, value, more):
    given = {option: value, **more}
    message = refusal_of(options, given)
    for flags in proposals(option, message):
        parse_config({}, options | given | flags)


@pytest.mark.parametrize("typed", ["train.step", "data.caption_drop", "train.width", "model.checkpoints", "steps"])
def test_the_option_that_is_meant_exists(options, typed):
    message = refusal_of(options, {typed: "1"})
    assert re.search(r"do you mean ([\w.]+)\?", message)[1] in option_fields()


@pytest.mark.parametrize("option", ["data.validation", "train.betas", "output.name"])
def test_advice_in_words_is_accepted(options, option):
    bad = {"data.validation": "1.5", "train.betas": "[0.9]", "output.name": "a/b"}[option]
    assert "use" in refusal_of(options, {option: bad})
    good = {"data.validation": ["0.5", "2"], "train.betas": ["[0, 0.9]"], "output.name": ["a"]}[option]
    for value in good:  # a share below 1 or a whole number; two numbers from 0 to below 1; a name without folders
        parse_config({}, options | {option: value})


@pytest.mark.parametrize("name", ["CON", "nul.txt", "end.", "end "])
def test_a_name_that_windows_does_not_take_is_refused_with_one_that_it_takes(name):
    with pytest.raises(ValueError) as error:
        check_file_name(name)
    check_file_name(re.search(r"such as (\w+)", str(error.value))[1])
