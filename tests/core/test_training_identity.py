"""What a resumed run may change, and what is refused, by the name of the option with both values."""

import json

import pytest

from pusa_core.training.config import option_fields
from pusa_core.training.config_file import parse_config, read_config, to_toml
from pusa_core.training.identity import ADJUSTABLE, FREE, REASONS, check_options, check_same, run_identity
from pusa_core.training.resume import write_checkpoint
from tests.support.training_videos import required_options

CLIPS = {"a.mp4": "1", "b.mp4": "2"}


@pytest.fixture
def identity(tmp_path):
    options = required_options(tmp_path)

    def build(clips=CLIPS, processes=1, **flags):
        config = parse_config({}, options | {name.replace("__", "."): value for name, value in flags.items()})
        contents = {"data.folder": str(sorted(clips.items())), "model.checkpoint": "weights"}
        return run_identity(config, contents, processes, clips)

    return build


@pytest.mark.parametrize(
    "name, value, was, now",
    [
        ("train__lr", "1e-6", "0.0001", "1e-06"),
        ("train__steps", "2000", "1000", "2000"),
        ("train__warmup", "10", "0", "10"),
        ("train__schedule", "cosine", "'constant'", "'cosine'"),
        ("train__batch", "2", "1", "2"),
        ("train__compile", "true", "False", "True"),
        ("model__base_dtype", "fp8", "'auto'", "'fp8'"),
    ],
)
def test_what_a_step_reads_from_its_options_may_change_and_is_told(identity, tmp_path, name, value, was, now):
    option = name.replace("__", ".")
    assert option in ADJUSTABLE
    assert check_same(identity(), identity(**{name: value}), tmp_path) == [f"{option} was {was}, now it is {now}"]


def test_an_unchanged_run_tells_no_change(identity, tmp_path):
    assert check_same(identity(), identity(output__name="other", train__offload_checkpoints="true"), tmp_path) == []


@pytest.mark.parametrize("name, value", [("rank", "8"), ("seed", "3"), ("ema", "0.9"), ("mode", "full")])
def test_any_other_option_is_refused_with_both_values(identity, tmp_path, name, value):
    old, new = identity(), identity(**{f"train__{name}": value})
    values = (old[f"train.{name}"]["value"], new[f"train.{name}"]["value"])
    message = f"train.{name} was {values[0]!r}, now it is {values[1]!r}, but {REASONS[f'train.{name}']}; set it back"
    with pytest.raises(ValueError) as error:
        check_same(old, new, tmp_path)
    assert message in str(error.value) and "None" not in str(error.value)


def test_the_number_of_processes_may_change(identity, tmp_path):
    assert check_same(identity(), identity(processes=4), tmp_path) == ["processes was 1, now it is 4"]


def test_every_other_option_has_a_reason_why_it_may_not():
    options = {name for name in option_fields() if not name.startswith("output.")}
    assert options | {"processes"} >= FREE | ADJUSTABLE and not FREE & ADJUSTABLE
    assert REASONS.keys() <= options - FREE - ADJUSTABLE | {"model", "data", "train"}


def test_clips_may_be_added_and_renamed_but_not_lost(identity, tmp_path):
    more = CLIPS | {"c.mp4": "3", "d.mp4": "3"}
    assert check_same(identity(), identity(more), tmp_path) == ["data.folder holds 4 clips, 2 before"]
    assert check_same(identity(), identity({"x.mp4": "1", "b.mp4": "2", "c.mp4": "3"}), tmp_path)
    for lost in ({"a.mp4": "1"}, {"a.mp4": "1", "b.mp4": "changed", "c.mp4": "3"}):
        with pytest.raises(ValueError, match=r"of the run's clips 1 are missing or have changed, such as b\.mp4"):
            check_same(identity(), identity(lost), tmp_path)
    with pytest.raises(ValueError, match=r"1 are missing or have changed, such as d\.mp4"):  # one of two equal ones
        check_same(identity(more), identity(CLIPS | {"c.mp4": "3"}), tmp_path)


def test_a_checkpoint_of_an_older_version_is_compared_by_what_it_has(identity, tmp_path):
    """It has no list of clips, no steps at a constant rate, and lacks options that are newer than it."""
    old = identity()
    del old["train.steps"], old["train.ema"], old["data.folder"]["clips"]
    assert check_same(old, identity(train__steps="5000"), tmp_path) == []
    with pytest.raises(ValueError, match=r"train\.ema was 0\.0, now it is 0\.9"):
        check_same(old, identity(train__ema="0.9"), tmp_path)
    with pytest.raises(ValueError, match=r"the content of data\.folder .* has changed"):
        check_same(old, identity({**CLIPS, "c.mp4": "3"}), tmp_path)


def test_changed_options_are_found_before_any_file_is_read(identity, tmp_path):
    options = required_options(tmp_path)
    for step in (1, 2):
        info = {"step": step, "row": {}, "identity": json.loads(json.dumps(identity()))}
        write_checkpoint(tmp_path / "run", info, {}, keep=3)
    check_options(parse_config({}, options | {"train.lr": "1e-6"}), 1)
    with pytest.raises(ValueError, match=r"train\.rank was 64, now it is 8"):
        check_options(parse_config({}, options | {"train.rank": "8"}), 1)
    check_options(parse_config({}, options), 4)


def test_a_toml_file_with_a_byte_order_mark_is_read(tmp_path):
    config = parse_config({}, required_options(tmp_path))
    (tmp_path / "config.toml").write_text(to_toml(config), encoding="utf-8-sig")
    assert read_config(tmp_path / "config.toml", {}) == config
