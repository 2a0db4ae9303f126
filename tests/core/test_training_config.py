"""Options of a training run: read from TOML and flags, refused by name when they make no sense."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pusa_core.training.config_file import parse_config, read_config, to_toml
from tests.support.training_videos import required_options


@pytest.fixture
def options(tmp_path):
    return required_options(tmp_path)


def test_flags_alone_are_enough_and_need_no_toml_reader(options, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomllib", None)
    flags = {"train.lr": "1e-5", "train.betas": "[0.9, 0.95]", "data.buckets": "[[64, 32], [32, 64]]"}
    flags |= {"train.gradient_checkpointing": "false", "train.steps": "7", "output.name": "true"}
    config = read_config(None, options | flags)
    assert config.model.checkpoint == (options["model.checkpoint"],)
    assert config.train.lr == 1e-5 and config.train.betas == (0.9, 0.95) and config.train.steps == 7
    assert config.data.buckets == ((64, 32), (32, 64))
    assert config.train.gradient_checkpointing is False
    assert config.output.name == "true"  # a text stays a text


def test_flags_change_what_the_file_says(options, tmp_path):
    path = tmp_path / "train.toml"
    path.write_text('[train]\nsteps = 5\nrank = 3\n[output]\nname = "Ünicode"\n', encoding="utf-8")
    config = read_config(path, options | {"train.rank": "9"})
    assert (config.train.steps, config.train.rank, config.output.name) == (5, 9, "Ünicode")


def test_what_follows_from_the_options(options):
    config = parse_config({}, options)
    assert config.data.cache_folder == Path(options["data.folder"]) / ".pusa_cache"
    assert config.train.scale == 1
    config = parse_config({}, options | {"train.rank": "8", "train.alpha": "4", "data.cache": "there"})
    assert config.train.scale == 0.5 and config.data.cache_folder == Path("there")


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("model.checkpoint", "", "model.checkpoint is empty; name a Wan"),
        ("model.checkpoint", "/no/such/file", "model.checkpoint: no such file: /no/such/file"),
        ("model.checkpoint", "12", "model.checkpoint is 12; it must be a list"),
        ("model.vae", "/no/vae", "model.vae: no such file: /no/vae"),
        ("data.folder", "x" * 5000, "data.folder: no such folder: xxx"),
        ("model.vae", "x" * 5000, "model.vae: no such file: xxx"),
        ("output.sample_keyframes", f"0={'x' * 5000}", "output.sample_keyframes: no such file: xxx"),
        ("model.vae", "", "model.vae or model.text_encoder is empty"),
        ("model.text_encoder", "/no/text", "model.text_encoder: no such file: /no/text"),
        ("model.init_lora", "/no/lora", "model.init_lora: no such file: /no/lora"),
        ("model.dtype", "fp8", 'model.dtype is "fp8"; choose one of bf16, fp32'),
        ("data.folder", "/no/clips", "data.folder: no such folder: /no/clips"),
        ("data.width", "830", "data.width, data.height: size 830 x 480.*resize to 832 x 480"),
        ("data.height", "0", "data.width, data.height: .*divisible by 16"),
        ("data.height", "-16", "data.width, data.height: .*divisible by 16"),
        ("data.height", "48.5", r"data.height is 48.5; it must be a whole number"),
        ("data.buckets", "[[64, 30]]", "data.buckets: size 64 x 30.*resize to 64 x 32"),
        ("data.buckets", "[[64]]", r"data.buckets holds \[64\]; a size is \[width, height\]"),
        ("data.buckets", "[64, 32]", r"data.buckets is \[64, 32\]; it must be a list, such as"),
        ("data.buckets", "wide", "data.buckets is 'wide'; it must be a list"),
        ("data.frames", "80", "data.frames: 80 frames: a Wan video has 4 n .* use 81"),
        ("data.frames", "0", "data.frames: 0 frames.*use 1"),
        ("data.fps", "-1", "data.fps is -1; use 0 to 1000"),
        ("data.caption_dropout", "1.1", "data.caption_dropout is 1.1; use 0 to 1"),
        ("data.validation", "-2", "data.validation is -2; use at least 0"),
        ("data.validation", "1.5", "data.validation is 1.5; use a share below 1 or a whole number"),
        ("train.mode", "dora", 'train.mode is "dora"; choose one of lora, full'),
        ("train.rank", "0", "train.rank is 0; use at least 1"),
        ("train.rank", "many", "train.rank is 'many'; it must be a whole number"),
        ("train.alpha", "-1", "train.alpha is -1; use at least 0"),
        ("train.alpha", "Infinity", "train.alpha is inf; it must be a number"),
        ("train.dropout", "1", "train.dropout is 1; use 0 to below 1"),
        ("train.steps", "0", "train.steps is 0; use at least 1"),
        ("train.steps", "1e400", "train.steps is inf; it must be a whole number"),
        ("train.batch", "0", "train.batch is 0; use at least 1"),
        ("train.accumulate", "-3", "train.accumulate is -3; use at least 1"),
        ("train.lr", "0", "train.lr is 0; use 1e-6 to 1e-2"),
        ("train.lr", "1", "train.lr is 1; use 1e-6 to 1e-2"),
        ("train.lr", "NaN", "train.lr is nan; it must be a number"),
        ("train.warmup", "1001", r"train.warmup is 1001; use 0 to 1000 \(train.steps\)"),
        ("train.schedule", "step", 'train.schedule is "step"; choose one of constant, cosine, linear'),
        ("train.optimizer", "sgd", 'train.optimizer is "sgd"; choose one of adamw, adamw8bit, adafactor'),
        ("train.weight_decay", "-0.1", "train.weight_decay is -0.1; use at least 0"),
        ("train.betas", "[0.9, 1.0]", r"train.betas is \[0.9, 1.0\]; use two numbers from 0 to below 1"),
        ("train.betas", "[0.9]", r"train.betas is \[0.9\]; use two numbers"),
        ("train.betas", "0.9", "train.betas is 0.9; it must be a list"),
        ("train.clip", "-1", "train.clip is -1; use at least 0"),
        ("train.p_async", "2", "train.p_async is 2; use 0 to 1"),
        ("train.p_region", "2", "train.p_region is 2; use 0 to 1"),
        ("train.shift", "0", r"train.shift is 0; use 5 \(as released\)"),
        ("train.weighting", "belt", 'train.weighting is "belt"; choose one of none, bell, reference'),
        ("train.ema", "1", "train.ema is 1; use 0 to below 1"),
        ("train.gradient_checkpointing", "yes", "train.gradient_checkpointing is 'yes'; it must be true or false"),
        ("train.gradient_checkpointing", "1", "train.gradient_checkpointing is 1; it must be true or false"),
        ("train.seed", "-1", "train.seed is -1; use at least 0"),
        ("train.device", "gpu", 'train.device is "gpu"; use cuda'),
        ("output.folder", "", "output.folder is empty"),
        ("output.name", "a/b", 'output.name is "a/b"; use a file name'),
        ("output.name", "", 'output.name is ""; use a file name'),
        ("output.save_every", "-1", "output.save_every is -1; use at least 0"),
        ("output.keep", "0", "output.keep is 0; use at least 1"),
        ("output.validate_every", "10", "output.validate_every is set, but.*set data.validation"),
        ("output.sample_every", "-1", "output.sample_every is -1; use at least 0"),
        ("output.sample_steps", "0", "output.sample_steps is 0; use at least 1"),
        ("output.sample_keyframes", "cat.png", 'output.sample_keyframes: "cat.png" is not POSITION=FILE'),
        ("output.sample_keyframes", "0=/no/cat.png", "output.sample_keyframes: no such file: /no/cat.png"),
        ("output.sample_keyframes", '["0=a.png:1.5"]', "output.sample_keyframes: .*noise 1.5 is outside"),
        ("output.sample_cfg", "high", "output.sample_cfg is 'high'; it must be a number"),
    ],
)
def test_nonsense_is_refused_by_name_with_the_fix(options, option, value, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        parse_config({}, options | {option: value})


@pytest.mark.parametrize(
    ("option", "flags", "message"),
    [
        ("offload_checkpoints", {"gradient_checkpointing": "false"}, r"needs train\.gradient_checkpointing"),
        ("offload_weights", {"gradient_checkpointing": "false"}, r"needs train\.gradient_checkpointing"),
        ("offload_weights", {"mode": "full"}, r"is for frozen weights, but train\.mode is full"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, option, flags, message):
    flags = {f"train.{name}": value for name, value in {option: "true", **flags}.items()}
    with pytest.raises(ValueError, match=rf"train\.{option} {message}"):
        parse_config({}, options | flags)


def test_every_shard_has_to_be_there(options):
    shards = f'["{options["model.checkpoint"]}", "second.safetensors"]'
    with pytest.raises(FileNotFoundError, match=r"model\.checkpoint: no such file: second\.safetensors"):
        parse_config({}, options | {"model.checkpoint": shards})


def test_a_keyframe_outside_the_sample_is_refused(options, tmp_path):
    (tmp_path / "cat.png").touch()
    keyframe = {"output.sample_keyframes": f"21={tmp_path / 'cat.png'}"}
    with pytest.raises(ValueError, match=r"output\.sample_keyframes: position 21 does not exist.*0 to 20"):
        parse_config({}, options | keyframe)
    parse_config({}, options | keyframe | {"data.frames": "85"})


def test_sample_videos_are_one_or_a_table_each(options, tmp_path):
    (tmp_path / "cat.png").touch()
    keyframe = f"0={tmp_path / 'cat.png'}"
    one = parse_config({}, options | {"output.sample_prompt": "a cat", "output.sample_keyframes": keyframe})
    assert one.output.all_samples == ({"prompt": "a cat", "keyframes": (keyframe,)},)
    tables = [{"prompt": "a cat"}, {"prompt": "a dog", "keyframes": [keyframe], "seed": 7}]
    several = parse_config({"output": {"samples": tables}}, options)
    assert several.output.all_samples[1] == {"prompt": "a dog", "keyframes": (keyframe,), "seed": 7}
    for table, message in (
        ({"keyframes": ["0=/no/cat.png"]}, r"output\.samples\[0\]\.keyframes: no such file: /no/cat\.png"),
        (
            {"keyframes": [keyframe.replace("0=", "21=")]},
            r"output\.samples\[0\]\.keyframes: position 21 does not exist",
        ),
        ({"seed": 1.5}, r"output\.samples\[0\]\.seed is 1\.5; it must be a whole number"),
        ({"promt": "a cat"}, r"unknown option promt of output\.samples\[0\]; do you mean prompt\?"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            parse_config({"output": {"samples": [table]}}, options)
    with pytest.raises(ValueError, match=r"output\.samples and output\.sample_prompt .* are both set"):
        parse_config({"output": {"samples": tables, "sample_prompt": "a cat"}}, options)


@pytest.mark.parametrize("missing", ["model.checkpoint", "model.vae", "model.text_encoder", "data.folder"])
def test_what_has_no_default_is_asked_for(options, missing):
    del options[missing]
    with pytest.raises(ValueError, match=f"{missing} is not set; it is"):
        parse_config({}, options)


@pytest.mark.parametrize(
    "unknown, nearest",
    [
        ("train.step", "train.steps"),
        ("train.learning_rate_schedule", "train.schedule"),
        ("data.caption_drop", "data.caption_dropout"),
        ("steps", "train.steps"),
        ("train.width", "data.width"),
        ("model.checkpoints", "model.checkpoint"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_known_one(options, unknown, nearest):
    with pytest.raises(ValueError, match=f"unknown option {unknown}; do you mean {nearest}\\?"):
        parse_config({}, options | {unknown: "1"})


def test_an_unknown_section_and_a_section_that_is_none_are_refused(options):
    with pytest.raises(ValueError, match=r"unknown section \[trian\]; do you mean train\?"):
        parse_config({"trian": {"steps": 1}}, options)
    with pytest.raises(ValueError, match=r"unknown section \[xyz\]; there are model, data, train, output"):
        parse_config({"xyz": {}}, options)
    with pytest.raises(ValueError, match=r"train is 5; it is a section: write \[train\]"):
        parse_config({"train": 5}, options)


def test_a_file_that_is_missing_or_no_toml_is_named(options, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.toml"):
        read_config(tmp_path / "none.toml", options)
    (tmp_path / "bad.toml").write_text("[train]\nsteps = \n")
    with pytest.raises(ValueError, match=r"bad\.toml is not TOML .*line 2"):
        read_config(tmp_path / "bad.toml", options)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(0, 1000, allow_nan=False)


@settings(deadline=None)  # the time is that of a busy machine's disk
@given(prompt=texts, name=texts, decay=numbers, betas=st.tuples(*[st.floats(0, 0.999)] * 2), lr=st.floats(1e-9, 0.1))
@example(prompt='\x7f "a" \\ \n\t\0 ü 🐈', name="x", decay=0.0, betas=(0.9, 0.95), lr=1e-5)
def test_written_options_are_read_back_the_same(tmp_path_factory, prompt, name, decay, betas, lr):
    folder = tmp_path_factory.getbasetemp()
    config = parse_config({}, required_options(folder))
    config = replace(
        config,
        data=replace(config.data, buckets=((64, 32), (32, 64))),
        train=replace(config.train, weight_decay=decay, betas=betas, lr=lr, offload_checkpoints=True),
        output=replace(config.output, sample_prompt=prompt, name=name if Path(name).name == name and name else "x"),
    )
    (folder / "config.toml").write_text(to_toml(config), encoding="utf-8")
    assert read_config(folder / "config.toml", {}) == config
