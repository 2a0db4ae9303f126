"""``python -m benchmarks.vbench`` on a suite of three prompts; the package's own code finds the videos."""

import csv
import importlib.util
import json
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.vbench.command import Contexts, main
from benchmarks.vbench.suite import Entry, Video, read_list
from demo.clips import draw_scene
from pusa_core.media.demo_text import encode_text
from pusa_core.media.video import read_frames

pytest.importorskip("diffusers")

SUBJECT, BACKGROUND = "a small red square, on a plain wall", "a large blue diamond - it's still"
CAMERA = f"{BACKGROUND}, camera pans left"
SUITE = [
    {"prompt_en": SUBJECT, "dimension": ["i2v_subject", "motion_smoothness"], "image_name": f"{SUBJECT}.jpg"},
    {"prompt_en": BACKGROUND, "dimension": ["i2v_background"], "image_name": f"{BACKGROUND}.jpg"},
    {"prompt_en": CAMERA, "dimension": ["camera_motion"], "image_name": f"{BACKGROUND}.jpg"},
]
QUICK = ["--size", "32x32", "--frames", "5", "--steps", "1", "--cfg", "1"]


@pytest.fixture
def suite(tmp_path):
    """Arguments that name the suite, in a folder of its own."""
    (tmp_path / "list.json").write_text(json.dumps(SUITE))
    (tmp_path / "crop").mkdir()
    for seed, prompt in enumerate((SUBJECT, BACKGROUND)):
        picture = (draw_scene(seed).render([0])[0] * 255).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "crop" / f"{prompt}.jpg")
    return ["--list", str(tmp_path / "list.json"), "--images", str(tmp_path / "crop")]


def run(suite, out, *arguments):
    main([*suite, "--out", str(out), *QUICK, *arguments])


def names(out):
    return sorted(path.name for path in (out / "videos").iterdir())


@pytest.fixture
def unencoded(monkeypatch):
    """Videos are kept as they are made: the encoder does not always make the same file of the same frames."""
    monkeypatch.setattr("benchmarks.vbench.command.write_video", lambda frames, path, fps: torch.save(frames, path))


def evaluator(monkeypatch):
    """The package's own class, with what it only needs to read videos left out where it is not installed."""
    if importlib.util.find_spec("vbench") is None:
        pytest.skip("the vbench package is not installed (pip install --no-deps vbench)")
    for package in ("decord", "torchvision"):
        if importlib.util.find_spec(package) is None:
            for name in (package, f"{package}.transforms"):
                monkeypatch.setitem(sys.modules, name, MagicMock())
    from vbench import VBench

    return VBench


def test_the_package_finds_every_video(suite, tmp_path, monkeypatch, capsys):
    run(suite, tmp_path / "out")
    dimensions = ["i2v_subject", "i2v_background", "camera_motion"]
    judge = evaluator(monkeypatch)("cpu", str(tmp_path / "list.json"), str(tmp_path / "judged"))
    info = judge.build_full_info_json(str(tmp_path / "out" / "videos"), "suite", dimensions)
    found = json.loads(Path(info).read_text())
    assert [entry["prompt_en"] for entry in found] == [SUBJECT, BACKGROUND, CAMERA]
    for entry in found:
        wanted = [str(tmp_path / "out" / "videos" / f"{entry['prompt_en']}-{index}.mp4") for index in range(5)]
        assert entry["video_list"] == wanted
    assert "WARNING" not in capsys.readouterr().out


def test_videos_are_named_and_seeded_by_the_rule(suite, tmp_path):
    out = tmp_path / "out"
    run(suite, out, "--samples", "2", "--seed", "100")
    assert names(out) == sorted(f"{prompt}-{index}.mp4" for prompt in (SUBJECT, BACKGROUND, CAMERA) for index in (0, 1))
    with (out / "seeds.csv").open() as file:
        seeds = {row["video"]: (row["image"], int(row["seed"])) for row in csv.DictReader(file)}
    assert seeds[f"{CAMERA}-1.mp4"] == (f"{BACKGROUND}.jpg", 111)
    assert len({seed for _, seed in seeds.values()}) == 15
    frames = read_frames(out / "videos" / f"{SUBJECT}-0.mp4")
    assert frames.shape == (5, 32, 32, 3)
    given = read_frames(tmp_path / "crop" / f"{SUBJECT}.jpg").reshape(32, 2, 32, 2, 3).mean((1, 3))
    other = read_frames(tmp_path / "crop" / f"{BACKGROUND}.jpg").reshape(32, 2, 32, 2, 3).mean((1, 3))
    first = frames[0]
    assert (first - given).abs().mean() < 0.5 * (first - other).abs().mean()  # it starts with its own picture


def test_samples_differ_and_a_second_run_repeats_them(suite, tmp_path, unencoded):
    for out in ("one", "two"):
        run(suite, tmp_path / out, "--samples", "2", "--dimensions", "i2v_subject")
    one, two = (
        [torch.load(tmp_path / out / "videos" / f"{SUBJECT}-{i}.mp4") for i in (0, 1)] for out in ("one", "two")
    )
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert (one[0] != one[1]).any()


def test_shards_make_the_whole_and_the_same(suite, tmp_path, unencoded):
    run(suite, tmp_path / "whole", "--samples", "1")
    for shard in ("1/2", "2/2"):
        run(suite, tmp_path / "parts", "--samples", "1", "--shard", shard)
    assert names(tmp_path / "parts") == names(tmp_path / "whole")
    for name in names(tmp_path / "whole"):
        whole, part = (torch.load(tmp_path / out / "videos" / name) for out in ("whole", "parts"))
        assert (whole == part).all()


def test_an_interrupted_run_goes_on_where_it_was(suite, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(suite, out, "--samples", "1")
    stamps = {name: (out / "videos" / name).stat().st_mtime_ns for name in names(out)}
    (out / "videos" / f"{CAMERA}-0.mp4").unlink()
    (out / "shard-1-of-1.partial").write_bytes(b"half a video")
    run(suite, out, "--samples", "1")
    changed = {name for name in names(out) if (out / "videos" / name).stat().st_mtime_ns != stamps[name]}
    assert changed == {f"{CAMERA}-0.mp4"} and names(out) == sorted(stamps)
    monkeypatch.setattr("benchmarks.vbench.command.load_vae", None)  # nothing is loaded when nothing is left to do
    run(suite, out, "--samples", "1")


@pytest.mark.parametrize("changed", [["--steps", "2"], ["--seed", "1"], ["--noise-levels", "0:0.2"]])
def test_a_run_goes_on_only_with_the_same_settings(suite, tmp_path, changed):
    run(suite, tmp_path / "out", "--samples", "1", "--dimensions", "i2v_subject")
    with pytest.raises(SystemExit, match="was begun with"):
        run(suite, tmp_path / "out", "--samples", "1", *changed)


def test_a_foreign_file_among_the_videos_is_refused(suite, tmp_path):
    (tmp_path / "out" / "videos").mkdir(parents=True)
    (tmp_path / "out" / "videos" / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit, match=r"notes\.txt, which is no video of the list"):
        run(suite, tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "6"], "looks for 1 to 5"),
        (["--dimensions", "beauty"], 'no prompt has the dimension "beauty"; choose of camera_motion'),
        (["--size", "64x32"], "times as wide as high"),
        (["--images", "gone"], "no such folder: gone"),
        (["--list", "gone.json"], r"gone\.json"),
        (["--noise-levels", "0=1"], "is not FRAME:LEVEL"),
        (["--checkpoint", "gone.safetensors"], "needs --vae"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(suite, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run(suite, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_a_missing_picture_is_refused(suite, tmp_path):
    (tmp_path / "crop" / f"{BACKGROUND}.jpg").unlink()
    with pytest.raises(SystemExit, match="lacks 1 pictures, such as a large blue"):
        run(suite, tmp_path / "out")


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b"])
def test_a_wrong_shard_is_refused(suite, tmp_path, shard, capsys):
    with pytest.raises(SystemExit):
        run(suite, tmp_path / "out", "--shard", shard)
    assert "is not I/N" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not VBench's list"),
        ("[]", "it is empty"),
        ('[{"prompt_en": "a"}]', "image_name"),
        (json.dumps([SUITE[0], SUITE[0]]), "twice"),
        (json.dumps([{**SUITE[0], "prompt_en": "../../up"}]), "cannot be the name of a file"),
        (json.dumps([{**SUITE[0], "image_name": "/etc/passwd"}]), "cannot be the name of a file"),
    ],
)
def test_another_list_is_refused(tmp_path, content, message):
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_list(tmp_path / "list.json")


def test_a_prompt_is_stored_without_its_padding_and_comes_back_with_it():
    contexts = Contexts(encode_text, ["", SUBJECT])
    assert (contexts[SUBJECT] == encode_text(SUBJECT)).all() and (contexts[""] == encode_text("")).all()


def test_a_seed_depends_on_the_place_in_the_whole_list():
    assert Video(Entry(7, "a", "a.jpg", ()), 3, 1000).seed == 1038
