"""``python -m pusa_core extend``: a video of any length, made in one go or in many."""

import json
import re
import shlex
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.memory import reset_peak, resident
from demo.clips import draw_scene
from demo.inputs import write_inputs
from pusa_core.cli import film
from pusa_core.cli.main import main
from pusa_core.media.video import read_frames
from tests.support.clips import sound_samples, write_clip
from tests.support.extending import PROMPT, QUICK, SIZE, demo_clip, extend, index_of, latents_of, made_anew, refused
from tools.comfyui import PACK

pytest.importorskip("diffusers")


@pytest.fixture
def clip(tmp_path):
    return demo_clip(tmp_path / "clip.mp4")


def test_a_clip_goes_on_to_the_asked_length_and_its_own_frames_are_kept(tmp_path, clip):
    extend(tmp_path, clip, *PROMPT, "--size", "64x64", seconds=3)
    frames, own = read_frames(tmp_path / "out.mp4"), read_frames(clip)
    assert len(frames) == 48
    error = ((frames[:35] - own) ** 2).mean(dim=(1, 2, 3))
    assert (10 * torch.log10(1 / error)).min() > 40  # dB: only the codec lies between
    assert (frames[35:] - frames[34]).abs().mean() < 0.2


def test_a_video_begins_with_a_picture_or_with_the_prompt_alone(tmp_path, clip):
    Image.fromarray((draw_scene(3).render([0])[0] * 255).astype(np.uint8)).save(tmp_path / "cat.png")
    extend(tmp_path, tmp_path / "cat.png", *PROMPT, out="picture.mp4")
    extend(tmp_path, *PROMPT, out="text.mp4")
    for name, new in (("picture", 63), ("text", 64)):
        assert len(read_frames(tmp_path / f"{name}.mp4")) == 64
        assert index_of(tmp_path / f"{name}.scenes")["scenes"][-1]["to"] == 4
        latents = latents_of(tmp_path / f"{name}.scenes")
        assert latents[1].shape[2] == (4 if new == 63 else 5) and latents[2].shape[2] == 2
    first = read_frames(tmp_path / "picture.mp4", first=1)[0]
    assert (first - read_frames(tmp_path / "cat.png", (SIZE, SIZE))[0]).abs().mean() < 0.02


@pytest.mark.parametrize("mode", ["chunk", "rolling"])
def test_a_folder_says_what_every_scene_was_made_of(tmp_path, clip, mode):
    rolling = ["--mode", "rolling", "--history", "2", "--block", "1"] if mode == "rolling" else []
    extend(tmp_path, clip, *PROMPT, "--prompt", "3s: it turns right", *rolling, "--scenes", tmp_path / "kept")
    scenes = index_of(tmp_path / "kept")["scenes"]
    assert [each["number"] for each in scenes] == list(range(1, len(scenes) + 1))
    assert [each["seed"] for each in scenes] == list(range(len(scenes)))
    assert scenes[0]["from"] == pytest.approx(35 / 16, abs=1e-3) and scenes[-1]["to"] == 4
    turned = [each["from"] for each in scenes if each["prompt"] == "it turns right"]
    assert turned and abs(turned[0] - 3) <= 2 / 16 and turned == [each["from"] for each in scenes][-len(turned) :]
    for each in scenes:
        assert Image.open(tmp_path / "kept" / each["picture"]).size == (SIZE, SIZE)
        with (tmp_path / "kept" / each["latents"]).open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        about = json.loads(header["__metadata__"]["pusa"])
        assert about["seed"] == each["seed"] and about["prompt"] == each["prompt"]
        assert about["levels"] == pytest.approx([0, 0.1, 0.4])
    assert (tmp_path / "out.sheet.png").exists()


# going on


def test_until_stops_and_the_same_command_goes_on_with_the_same_bits(tmp_path, clip):
    extend(tmp_path, clip, *PROMPT, out="straight.mp4")
    extend(tmp_path, clip, *PROMPT, "--until", 2)
    assert len(read_frames(tmp_path / "out.mp4")) == 35 + 16
    extend(tmp_path, clip, *PROMPT)
    straight, resumed = (tmp_path / name for name in ("straight", "out"))
    assert not made_anew(latents_of(straight.with_suffix(".scenes")), latents_of(resumed.with_suffix(".scenes")))
    assert straight.with_suffix(".mp4").read_bytes() == resumed.with_suffix(".mp4").read_bytes()


def test_a_longer_video_keeps_the_scenes_that_are_there(tmp_path, clip, monkeypatch):
    extend(tmp_path, clip, *PROMPT, seconds=3.1)  # the second scene is cut
    before = latents_of(tmp_path / "out.scenes")
    extend(tmp_path, clip, *PROMPT, seconds=5)
    assert made_anew(before, latents_of(tmp_path / "out.scenes")) == list(range(len(before) + 1, 7))


def test_what_is_there_needs_no_network(tmp_path, clip, monkeypatch):
    extend(tmp_path, clip, *PROMPT)
    monkeypatch.setattr(film, "build_models", None)
    monkeypatch.setattr(film, "load_text_encoder", None)
    extend(tmp_path, clip, *PROMPT)


@pytest.mark.parametrize("mode", ["chunk", "rolling"])
def test_a_retake_makes_a_scene_anew_and_what_depends_on_it(tmp_path, clip, mode):
    rolling = ["--mode", "rolling", "--history", "2", "--block", "1"] if mode == "rolling" else []
    extend(tmp_path, clip, *PROMPT, *rolling)
    folder = tmp_path / "out.scenes"
    first = latents_of(folder)
    assert len(first) == 4
    extend(tmp_path, "--retake", 3, "--prompt", "a large blue diamond", seconds=None)
    second = latents_of(folder)
    assert made_anew(first, second) == [3, 4]
    assert [each["prompt"].split()[-1] for each in index_of(folder)["scenes"]] == ["left", "left", "diamond", "left"]
    extend(tmp_path, clip, *PROMPT, *rolling)  # the take that was chosen stays chosen
    assert not made_anew(second, latents_of(folder))
    extend(tmp_path, "--retake", 2, seconds=None)
    third = latents_of(folder)
    assert made_anew(second, third) == [2, 3, 4] and index_of(folder)["scenes"][1]["seed"] == 1001
    extend(tmp_path, "--retake", 2, "--seed", 1, seconds=None)  # nothing is lost: the take before is found
    assert not made_anew(second, latents_of(folder))


def test_a_retake_with_the_whole_command_repeated_is_the_same(tmp_path, clip):
    extend(tmp_path, clip, *PROMPT)
    before = latents_of(tmp_path / "out.scenes")
    extend(tmp_path, clip, *PROMPT, "--retake", 4, "--seed", 9)
    after = latents_of(tmp_path / "out.scenes")
    assert made_anew(before, after) == [4]
    extend(tmp_path, clip, *PROMPT, "--retake", 4, "--seed", 0)
    assert made_anew(after, latents_of(tmp_path / "out.scenes")) == [4]
    assert index_of(tmp_path / "out.scenes")["scenes"][3]["seed"] == 0


def test_takes_of_one_video_are_not_those_of_another_in_the_same_folder(tmp_path, clip):
    extend(tmp_path, clip, *PROMPT)
    extend(tmp_path, "--retake", 1, "--prompt", "a large blue diamond", seconds=None)
    extend(tmp_path, *PROMPT)
    assert {each["prompt"] for each in index_of(tmp_path / "out.scenes")["scenes"]} == {PROMPT[1]}


# interrupted


def test_the_sound_of_the_clip_is_in_the_video(tmp_path):
    source = write_clip(tmp_path / "clip.mp4", frames=24, seconds_of_sound=1.5)
    extend(tmp_path, source, *PROMPT, seconds=3)
    before, after = sound_samples(source), sound_samples(tmp_path / "out.mp4")
    length = len(before.samples)
    assert length > 60_000 and np.array_equal(before.samples, after.samples[:length])
    assert len(read_frames(tmp_path / "out.mp4")) == 48


@pytest.mark.parametrize(("rate", "frames", "given"), [(24, 36, 24), (30, 7, 4), (10, 11, 18), (59, 3, 1)])
def test_clips_of_any_rate_and_length(tmp_path, rate, frames, given):
    source = write_clip(tmp_path / "clip.mp4", rate=rate, frames=frames, size=(38, 50))
    main(["extend", str(source), *QUICK[:-2], *PROMPT, "--seconds", "3", "--out", str(tmp_path / "out.mp4")])
    made = read_frames(tmp_path / "out.mp4")
    assert made.shape == (48, 48, 32, 3)  # cut to multiples of 16
    assert index_of(tmp_path / "out.scenes")["scenes"][0]["from"] == pytest.approx(given / 16, abs=1e-3)
    brightness = made[:given].mean(dim=(1, 2, 3)) * 255 / 4
    expected = [min(frames - 1, int((number + 0.5) / 16 * rate)) for number in range(given)]
    assert brightness.tolist() == pytest.approx(expected, abs=0.6)


def test_a_retake_changes_a_scene_and_not_the_video(tmp_path, clip):
    extend(tmp_path, clip, *PROMPT)
    arguments = ["--retake", "1", "--out", tmp_path / "out.mp4", "--overwrite"]
    assert "steps is 3, but the scenes were made with 1" in refused(*arguments, "--steps", "3")
    assert "by one prompt without a time" in refused(*arguments, *PROMPT, "--prompt", "1s: x")
    assert "--retake is 8, but the video has the scenes 1 to 4" in refused("--retake", "8", *arguments[2:])


PAGE = (PACK / "docs" / "standalone.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    """As they are written, one after the other, but in one step, without guidance and in smaller windows."""
    commands = [shlex.split(line) for line in re.findall(r"^python -m pusa_core (extend .+)$", PAGE, re.MULTILINE)]
    assert len(commands) == 4
    write_inputs(tmp_path, 776)
    monkeypatch.chdir(tmp_path)
    for command in commands:
        faster = [] if "--retake" in command else ["--steps", "1", "--cfg", "1", "--size", "32x32"]
        main([*command, *faster])
    assert [len(read_frames(f"{name}.mp4")) for name in ("long", "retaken", "rolling", "from_text")] == [
        240,
        240,
        160,
        81,
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
def test_memory_does_not_grow_with_the_video(tmp_path):
    """Ten times as many frames; the peak is that of the process."""

    def peak(seconds):
        reset_peak()
        extend(tmp_path, *PROMPT, out=f"{seconds}.mp4", seconds=seconds)
        return resident("VmHWM")

    peak(2)
    short, long = peak(3), peak(30)
    assert long < 1.05 * short
