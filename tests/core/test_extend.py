"""``python -m pusa_core extend``: a video of any length, made in one go or in many, and what it refuses."""

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks.memory import reset_peak, resident
from demo.clips import draw_scene
from demo.inputs import write_inputs
from pusa_core.cli import film
from pusa_core.cli.main import main
from pusa_core.media.video import read_frames, write_video
from pusa_core.storage.lock import hold_lock
from tests.support.clips import sound_samples, write_clip
from tests.support.patience import wait_for
from tools.comfyui import PACK

pytest.importorskip("diffusers")

SIZE = 32
QUICK = ["--steps", "1", "--cfg", "1", "--frames", "17", "--size", f"{SIZE}x{SIZE}"]  # a hop is 8 frames
PROMPT = ["--prompt", "a small red square moves slowly left"]


@pytest.fixture
def clip(tmp_path):
    """Two seconds of the demo's world, and a bit."""
    path = tmp_path / "clip.mp4"
    write_video(torch.from_numpy(draw_scene(3).render(range(35))), path)
    return path


def extend(folder, *arguments, out="out.mp4", seconds=4):
    timed = [] if seconds is None else ["--seconds", str(seconds)]
    main(["extend", *QUICK, *timed, *map(str, arguments), "--out", str(folder / out), "--overwrite"])


def refused(*arguments):
    with pytest.raises(SystemExit) as caught:
        main(["extend", *map(str, arguments)])
    assert isinstance(caught.value.code, str) and caught.value.code.startswith("error: ")
    assert "\n" not in caught.value.code
    return caught.value.code


def index_of(folder):
    return json.loads((folder / "scenes.json").read_text())


def latents_of(folder):
    """The latents of every scene that the index lists, by number."""
    files = {each["number"]: folder / each["latents"] for each in index_of(folder)["scenes"]}
    return {number: load_file(file)["latents"].clone() for number, file in files.items()}  # not mapped


def made_anew(before, after):
    """The numbers of the scenes that differ."""
    return [number for number in after if number not in before or not torch.equal(before[number], after[number])]


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


def command(folder, clip, *more):
    arguments = ["extend", str(clip), *QUICK, *PROMPT, "--seconds", "5", "--out", str(folder / "out.mp4"), *more]
    return [sys.executable, "-m", "pusa_core", *arguments]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    write_video(torch.from_numpy(draw_scene(3).render(range(35))), folder / "clip.mp4")
    subprocess.run(command(folder, folder / "clip.mp4"), cwd=PACK, env=ENVIRONMENT, check=True)
    return folder


def is_there_or_over(scenes, number, process):
    return list(scenes.glob(f"scene_{number:04d}_*.safetensors")) or process.poll() is not None


@pytest.mark.parametrize(("how", "scenes_killed"), [(signal.SIGKILL, (1, 2, 4)), (signal.SIGINT, (3,))])
def test_killed_again_and_again_the_video_has_the_bits_of_one_that_was_not(tmp_path, undisturbed, how, scenes_killed):
    """Only the scene that was being made is made again."""
    scenes = tmp_path / "out.scenes"
    for number in scenes_killed:
        with subprocess.Popen(
            command(tmp_path, undisturbed / "clip.mp4"), cwd=PACK, env=ENVIRONMENT, stderr=subprocess.PIPE
        ) as process:
            wait_for(partial(is_there_or_over, scenes, number, process))
            assert process.poll() is None
            process.send_signal(how)
            assert process.stderr is not None
            said = process.stderr.read().decode()
        assert not (tmp_path / "out.mp4").exists()
        if how == signal.SIGINT:
            assert f"of 6 kept in {scenes}: python -m pusa_core extend --scenes {scenes} --out" in said
    kept = {path: path.stat().st_mtime_ns for path in scenes.glob("scene_*.safetensors")}
    subprocess.run(command(tmp_path, undisturbed / "clip.mp4"), cwd=PACK, env=ENVIRONMENT, check=True)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert not made_anew(latents_of(undisturbed / "out.scenes"), latents_of(scenes))
    assert (tmp_path / "out.mp4").read_bytes() == (undisturbed / "out.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "out.scenes", "out.sheet.png"]
    assert not list(scenes.glob(".*"))  # no lock, no partial file


def test_a_full_disk_in_a_scene_names_it_and_loses_nothing(tmp_path, clip, monkeypatch, caplog):
    from pusa_core.sampling import scenes as store

    write = store.save_file

    def full(tensors, path, metadata):
        if "scene_0003" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(tensors, path, metadata)

    with monkeypatch.context() as broken:
        broken.setattr(store, "save_file", full)
        text = refused(clip, *QUICK, *PROMPT, "--seconds", "5", "--out", tmp_path / "out.mp4")
    assert "scene_0003" in text and "No space left on device" in text
    assert "scenes 1 to 2 of 6 kept" in caplog.text
    before = latents_of(tmp_path / "out.scenes")
    assert list(before) == [1, 2] and not (tmp_path / "out.mp4").exists()
    extend(tmp_path, clip, *PROMPT, seconds=5)
    assert made_anew(before, latents_of(tmp_path / "out.scenes")) == [3, 4, 5, 6]


def test_a_video_that_cannot_be_written_keeps_all_scenes(tmp_path, clip, monkeypatch, caplog):
    import av

    def full(self, *packets):
        raise av.FFmpegError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("pusa_core.media.colours.ToYuv.__call__", full)
        assert "cannot write" in refused(clip, *QUICK, *PROMPT, "--seconds", "3", "--out", tmp_path / "out.mp4")
    assert f"extend --scenes {tmp_path / 'out.scenes'} --out {tmp_path / 'out.mp4'} goes on from there" in caplog.text
    assert not list(tmp_path.glob("*.mp4.*")) and not (tmp_path / "out.mp4").exists()
    extend(tmp_path, seconds=None)  # the folder knows the rest
    assert len(read_frames(tmp_path / "out.mp4")) == 48


@pytest.mark.parametrize("damage", ["cut", "changed", "other", "empty"])
def test_a_scene_that_is_damaged_is_named_and_made_anew(tmp_path, clip, caplog, damage):
    extend(tmp_path, clip, *PROMPT)
    folder = tmp_path / "out.scenes"
    before, video = latents_of(folder), (tmp_path / "out.mp4").read_bytes()
    file = folder / index_of(folder)["scenes"][1]["latents"]
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "changed":
        file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    elif damage == "other":
        save_file({"latents": torch.zeros(1, 16, 2, 4, 4)}, file)
    else:
        file.write_bytes(b"")
    extend(tmp_path, clip, *PROMPT)
    assert "scene 2 is damaged and is made anew" in caplog.text and file.name in caplog.text
    assert not made_anew(before, latents_of(folder))
    assert (tmp_path / "out.mp4").read_bytes() == video


def test_an_index_that_is_damaged_is_not_replaced(tmp_path, clip):
    extend(tmp_path, clip, *PROMPT)
    index = tmp_path / "out.scenes" / "scenes.json"
    index.write_text(index.read_text()[:100])
    arguments = [clip, *QUICK, *PROMPT, "--seconds", "4", "--out", tmp_path / "out.mp4", "--overwrite"]
    assert "scenes.json cannot be read" in refused(*arguments)
    index.unlink()
    extend(tmp_path, clip, *PROMPT)


def test_of_two_runs_with_one_folder_the_second_is_refused(tmp_path, clip):
    (tmp_path / "kept").mkdir()
    with hold_lock(tmp_path / "kept"):
        text = refused(clip, *PROMPT, "--seconds", "4", "--out", tmp_path / "x.mp4", "--scenes", tmp_path / "kept")
    assert "is being written by another run" in text


def test_nothing_that_was_there_is_replaced_without_being_asked(tmp_path, clip):
    (tmp_path / "out.mp4").write_text("mine")
    assert "exists" in refused(clip, *QUICK, *PROMPT, "--seconds", "4", "--out", tmp_path / "out.mp4")
    assert "is an input" in refused(clip, *QUICK, *PROMPT, "--seconds", "4", "--out", clip, "--overwrite")
    assert (tmp_path / "out.mp4").read_text() == "mine"


# what is given


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{clip}"], "holds no scenes to go on from; to make them, give a prompt"),
        (["{clip}", *PROMPT], "--seconds is None; give the length"),
        (["{clip}", *PROMPT, "--seconds", "2"], "has 2.1875 s, and --seconds 2 is the length of the whole video"),
        (["{clip}", *PROMPT, "--seconds", "-3"], "--seconds is -3"),
        (["{clip}", *PROMPT, "--seconds", "nan"], "--seconds is nan"),
        (["{clip}", *PROMPT, "--seconds", "inf"], "--seconds is inf"),
        (["{clip}", *PROMPT, *PROMPT, "--seconds", "4"], "two prompts begin at 0 s"),
        (["{clip}", "--prompt", "2s: x", "--seconds", "4"], "no prompt holds from the start"),
        (["gone.mp4", *PROMPT, "--seconds", "4"], "no such file: gone.mp4"),
        (["{text}", *PROMPT, "--seconds", "4"], "cannot be read as a video"),
        (["{sound}", *PROMPT, "--seconds", "4"], "it holds no video"),
        (["{clip}", *PROMPT, "--seconds", "4", "--until", "9"], "--until is 9, but the video has the scenes 1 to"),
        (["{clip}", *PROMPT, "--seconds", "4", "--retake", "1"], "holds no scenes"),
        (["{clip}", *PROMPT, "--seconds", "4", "--retake", "1", "--scenes", "{folder}"], "holds no scenes"),
        (["{clip}", *PROMPT, "--seconds", "4", "--history", "40"], "history is 40"),
        (["{clip}", *PROMPT, "--seconds", "4", "--mode", "rolling", "--block", "5"], "use blocks of 1, 2, 4, 8, 16"),
        (["{clip}", *PROMPT, "--seconds", "4", "--frames", "9"], "no room for new ones"),
        (["{clip}", *PROMPT, "--seconds", "4", "--size", "33x32"], "divisible by 16"),
        (["{clip}", *PROMPT, "--seconds", "4", "--fps", "0"], "--fps is 0"),
    ],
)
def test_bad_input_is_refused_with_the_fix(tmp_path, clip, monkeypatch, arguments, message):
    monkeypatch.setattr(film, "load_vae", None)  # refused before the work
    write_clip(tmp_path / "sound.mp4", frames=0, seconds_of_sound=1.0)
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "folder").mkdir()
    files = {name: tmp_path / f"{name}.mp4" for name in ("sound", "text")} | {"clip": clip}
    arguments = [each.format(**files, folder=tmp_path / "folder") for each in arguments]
    assert message in refused(*arguments, "--out", tmp_path / "out.mp4")
    assert not list(tmp_path.glob("out*"))


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
