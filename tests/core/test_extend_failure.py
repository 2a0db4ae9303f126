"""``python -m pusa_core extend``, killed, out of disk, with damaged files, or given what it cannot take."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from demo.clips import draw_scene
from pusa_core.cli import film
from pusa_core.media.video import read_frames, write_video
from pusa_core.storage.lock import hold_lock
from tests.support.clips import write_clip
from tests.support.extending import PROMPT, QUICK, demo_clip, extend, index_of, latents_of, made_anew, refused
from tools.comfyui import PACK

pytest.importorskip("diffusers")


@pytest.fixture
def clip(tmp_path):
    return demo_clip(tmp_path / "clip.mp4")


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


# a signal from outside comes whenever the machine gets to it, which may be after the last scene
INTERRUPTED = """
import os, signal, sys
from pusa_core.cli.main import main
from pusa_core.sampling import scenes
write, number, how = scenes.save_file, int(sys.argv[1]), int(sys.argv[2])
def write_and_end(tensors, path, metadata):
    write(tensors, path, metadata)
    if f"scene_{number:04d}" in str(path):
        os.kill(os.getpid(), how)
scenes.save_file = write_and_end
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background is started without
main(sys.argv[3:])
"""
"""A command that sends itself a signal while a scene's file is written."""


@pytest.mark.parametrize(("how", "scenes_killed"), [(signal.SIGKILL, (1, 2, 4)), (signal.SIGINT, (3,))])
def test_killed_again_and_again_the_video_has_the_bits_of_one_that_was_not(tmp_path, undisturbed, how, scenes_killed):
    """Only the scene that was being made is made again."""
    scenes = tmp_path / "out.scenes"
    for number in scenes_killed:
        _, _, _, *arguments = command(tmp_path, undisturbed / "clip.mp4")
        script = [sys.executable, "-c", INTERRUPTED, str(number), str(int(how)), *arguments]
        ended = subprocess.run(script, cwd=PACK, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert ended.returncode not in (0, 2)
        assert not (tmp_path / "out.mp4").exists()
        assert [path.name[:10] for path in sorted(scenes.glob("scene_*.safetensors"))] == [
            f"scene_{made:04d}" for made in range(number)
        ]
        if how == signal.SIGINT:
            assert f"of 6 kept in {scenes}: python -m pusa_core extend --scenes {scenes} --out" in ended.stderr
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
