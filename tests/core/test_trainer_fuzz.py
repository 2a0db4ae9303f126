"""Configurations, folders of clips and metadata of any kind: accepted, or refused by the name of the option or file.

New cases at every run; a failure prints how to run its case again. ``PUSA_FUZZ=20`` tries 20 times as many.
"""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pusa_core.training.clips import find_clips
from pusa_core.training.config import SECTIONS, option_fields
from pusa_core.training.config_file import parse_config, read_config
from pusa_core.training.files import check_file_name
from tests.support.training_videos import required_options

CASES = 100 * int(os.environ.get("PUSA_FUZZ", "1"))  # for each test
fuzz = settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
OPTIONS = option_fields()

anything = st.text(max_size=30)
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, -1, 16, 81, 1e-4, 10**400]))
values = st.recursive(
    st.one_of(st.booleans(), numbers, anything), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


@pytest.fixture(scope="module")
def required(tmp_path_factory):
    return required_options(tmp_path_factory.mktemp("fuzz"))


def attempt(read, *names):
    """Call it; an error that it raises names one of ``names``."""
    try:
        return read()
    except (ValueError, FileNotFoundError) as error:
        text = str(error)
        assert any(name in text for name in names), f"{error!r} names none of {names}"
        return None


@fuzz
@given(flags=st.dictionaries(st.sampled_from(sorted(OPTIONS)), st.one_of(anything, values.map(str)), max_size=4))
def test_any_flags_are_accepted_or_refused_by_name(required, flags):
    attempt(lambda: parse_config({}, required | flags), *flags, *_involved(flags))


@fuzz
@given(sections=st.dictionaries(st.sampled_from(sorted(SECTIONS)), st.dictionaries(anything, values, max_size=2)))
def test_any_sections_are_accepted_or_refused_by_name(required, sections):
    names = [f"{section}.{name}" for section, options in sections.items() for name in options]
    attempt(lambda: parse_config(sections, required), *names)


@fuzz
@given(options=st.dictionaries(st.sampled_from(sorted(OPTIONS)), values, min_size=1, max_size=3))
def test_values_of_any_type_are_accepted_or_refused_by_name(required, options):
    sections: dict[str, dict] = {}
    for name, value in options.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, {})[key] = value
    given_elsewhere = {name: value for name, value in required.items() if name not in options}
    attempt(lambda: parse_config(sections, given_elsewhere), *options, *_involved(options))


@fuzz
@given(content=st.one_of(st.binary(max_size=200), anything.map(str.encode), st.just(b"[" * 5000)))
def test_any_bytes_are_toml_or_refused_by_the_files_name(tmp_path, required, content):
    path = tmp_path / "train.toml"
    path.write_bytes(content)
    attempt(lambda: read_config(path, required), path.name, "unknown section", "it is a section")


def _involved(options):
    """Options whose own value is at fault when another one is given."""
    if any(name.startswith("data.") for name in options):
        return ("data.width, data.height", "data.buckets", "data.frames", "output.sample_keyframes")
    return ("train.", "output.", "data.validation")


names = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.sampled_from(["-rf", "--resume", " a", "a ", "a\nb", "ü" * 60, "..", ".", "a.mp4", "%s", "$HOME", "a;b", "🐈"]),
)


@fuzz
@given(files=st.lists(st.tuples(names, st.one_of(st.none(), st.binary(max_size=20), anything)), max_size=4))
def test_files_of_any_name_and_captions_of_any_bytes_are_used_or_skipped(tmp_path, files):
    folder = fresh(tmp_path / "clips")
    made = set()
    for name, caption in files:
        path = folder / f"{name}.mp4"
        path.touch()
        made.add(path.name)
        if caption is not None:
            content = caption if isinstance(caption, bytes) else caption.encode("utf-8", "ignore")
            path.with_suffix(".txt").write_bytes(content)
    skipped: dict[str, str] = {}
    clips = find_clips(folder, skipped.__setitem__)
    used = {clip.path.name for clip in clips}
    shown = {name for name in made if Path(name).suffix and not name.startswith(".")}
    assert used | skipped.keys() == shown and not used & skipped.keys()
    assert all(clip.caption.strip() and "\0" not in clip.caption for clip in clips)


rows = st.dictionaries(st.sampled_from(["file_name", "text", "more"]), st.one_of(values, names), max_size=3)


@fuzz
@given(lines=st.lists(st.one_of(rows, values).map(json.dumps) | anything, max_size=4))
def test_any_jsonl_is_read_or_refused_by_its_name(tmp_path, lines):
    folder = fresh(tmp_path / "clips")
    (folder / "metadata.jsonl").write_bytes("\n".join(lines).encode("utf-8", "ignore"))
    check_metadata(folder, "metadata.jsonl")


@fuzz
@given(content=st.one_of(st.binary(max_size=60), st.lists(st.lists(anything | names, max_size=4), max_size=4)))
def test_any_csv_is_read_or_refused_by_its_name(tmp_path, content):
    folder = fresh(tmp_path / "clips")
    if isinstance(content, bytes):
        (folder / "metadata.csv").write_bytes(b"file_name,text\n" + content)
    else:
        with (folder / "metadata.csv").open("w", encoding="utf-8", errors="ignore", newline="") as file:
            csv.writer(file, escapechar="\\").writerows([["file_name", "text"], *content])
    check_metadata(folder, "metadata.csv")


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def check_metadata(folder, name):
    clips = attempt(lambda: find_clips(folder, lambda *_: None), name)
    for clip in clips or ():
        assert clip.path.resolve().is_relative_to(folder.resolve()) and isinstance(clip.caption, str)


@fuzz
@given(name=st.one_of(names, anything, st.sampled_from(["CON", "nul.x", "COM1", "x" * 300, ""])))
def test_a_file_name_that_is_accepted_can_be_written(tmp_path, name):
    try:
        check_file_name(name)
    except ValueError as error:
        assert str(error).startswith('is "')
        return
    path = tmp_path / f"{name}.safetensors"
    path.touch()
    assert path in list(tmp_path.iterdir())
    path.unlink()
