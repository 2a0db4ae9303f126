"""The folder of a run: held by one process, and nothing in it is touched but what the run made."""

import json
import os
import signal

import pytest
from PIL import Image

from benchmarks.resume_kills import command, finish, started
from pusa_core.storage.atomic import SaveError, write_whole
from pusa_core.training.ownership import file_mark, hold_folder, open_run
from pusa_core.training.resume import newest_checkpoint, owned, write_checkpoint
from tests.support.training_runs import refusal

INFO = {"row": {}, "identity": {}}


def begun(process):
    """Wait until a training has reported something; the event."""
    return json.loads(process.stdout.readline())


def test_a_second_training_is_refused_by_name_until_the_first_is_killed(demo_clips, tmp_path):
    run = tmp_path / "run"
    first = command(demo_clips, run, "--train.steps=100000")
    second = command(demo_clips, run, "--train.steps=1", "--resume")
    with started(first) as process:
        begun(process)
        line = refusal(second)
        assert line.startswith(f"error: output.folder {run} is in use by another training")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert finish(second)[-1]["event"] == "done"


def test_a_folder_is_held_before_any_work(tmp_path):
    """Before a model is read: the checkpoint is no checkpoint, which would be the first thing to fail."""
    (tmp_path / "dit.safetensors").write_bytes(b"no weights")
    (tmp_path / "clips").mkdir()
    arguments = command(tmp_path / "clips", tmp_path / "run", f"--model.checkpoint={tmp_path / 'dit.safetensors'}")
    with hold_folder(tmp_path / "run"):
        assert "is in use by another training" in refusal(arguments)
    assert not (tmp_path / "run").exists()  # nothing was written, so nothing is left


def test_a_folder_that_cannot_be_made_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(ValueError, match=r"output\.folder"), hold_folder(folder):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["loss.png", "config.toml", "metrics.csv", "pusa_lora.safetensors"])
def test_a_file_of_the_users_stops_a_run_that_would_replace_it(demo_clips, tmp_path, name):
    run = tmp_path / "run"
    run.mkdir()
    (run / name).write_bytes(b"precious")
    line = refusal(command(demo_clips, run, "--train.steps=1", "--resume"))
    assert str(run / name) in line and ("was not made by this run; move it away" in line or "exists; choose" in line)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == {name: b"precious"}


def test_resuming_touches_nothing_that_the_run_did_not_make(demo_clips, tmp_path):
    run = tmp_path / "run"
    finish(command(demo_clips, run, "--train.steps=2", "--output.save_every=1"))
    foreign = {
        run / "foo.partial": b"another tool's",
        run / "loss.png.partial": b"another tool's",
        run / "checkpoints" / "foo.partial": b"another tool's",
        run / "checkpoints" / "step_00000001.partial": b"another tool's",
        run / "checkpoints" / "step_00000000" / "weights.bin": b"another tool's",
        run / "samples" / "step_00000004.png": b"the user's",
        run / ".lock": b"another tool's",
    }
    for path, content in foreign.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    finish(command(demo_clips, run, "--train.steps=6", "--output.save_every=1", "--output.keep=1", "--resume"))
    assert {path: path.read_bytes() for path in foreign} == foreign
    assert [path.name for path in owned(run)] == ["step_00000006"]
    Image.new("RGB", (8, 8)).save(run / "loss.png")
    before = (run / "loss.png").read_bytes()
    line = refusal(command(demo_clips, run, "--train.steps=7", "--resume"))
    assert f"{run / 'loss.png'} was not made by this run" in line and (run / "loss.png").read_bytes() == before


def test_a_checkpoint_of_another_tool_stops_a_run_that_would_replace_it(demo_clips, tmp_path):
    taken = tmp_path / "run" / "checkpoints" / "step_00000001"
    taken.mkdir(parents=True)
    (taken / "weights.bin").write_bytes(b"precious")
    line = refusal(command(demo_clips, tmp_path / "run", "--train.steps=1", "--resume"))
    assert f"{taken} was not made by this run" in line
    assert (taken / "weights.bin").read_bytes() == b"precious" and len(list(taken.iterdir())) == 1


def test_checkpoints_of_another_tool_are_neither_pruned_nor_taken_nor_replaced(tmp_path):
    others = [tmp_path / "checkpoints" / f"step_0000000{step}" for step in (0, 9)]
    for other in others:
        other.mkdir(parents=True)
        (other / "run.json").write_text("[]")
    for step in (1, 2, 3):
        write_checkpoint(tmp_path, {"step": step, **INFO}, {}, keep=1)
    kept = ["step_00000000", "step_00000003", "step_00000009"]
    assert sorted(path.name for path in others[0].parent.iterdir()) == kept
    with pytest.raises(SaveError, match="step_00000009: it is there, and not a checkpoint of this run"):
        write_checkpoint(tmp_path, {"step": 9, **INFO}, {}, keep=1)
    assert all((other / "run.json").read_text() == "[]" for other in others)
    assert newest_checkpoint(tmp_path).step == 3


def test_every_file_of_a_run_carries_its_id(demo_clips, tmp_path):
    run = tmp_path / "run"
    finish(command(demo_clips, run, "--train.steps=1"))
    for name in ("loss.png", "config.toml", "pusa_lora.safetensors"):
        assert file_mark(run / name) == open_run(run).id != ""


def test_a_run_of_an_older_version_is_resumed(demo_clips, tmp_path):
    """Its files carry no id."""
    run = tmp_path / "run"
    finish(command(demo_clips, run, "--train.steps=1"))
    (run / "pusa_run.json").unlink()
    Image.open(run / "loss.png").save(run / "loss.png")
    (run / "config.toml").write_text("[model]\n")
    for name in ("loss.png", "config.toml"):
        assert file_mark(run / name) == ""
    (run / "pusa_lora.safetensors").unlink()
    assert finish(command(demo_clips, run, "--train.steps=2", "--resume"))[-1]["step"] == 2


@pytest.mark.parametrize("name", ["CON", "nul.txt", "x" * 300, "a:b", "a\nb"])
def test_a_name_that_no_file_can_have_everywhere_is_refused_before_the_training(demo_clips, tmp_path, name):
    line = refusal(command(demo_clips, tmp_path / "run", f"--output.name={name}"))
    assert line.startswith('error: output.name is "') and not (tmp_path / "run").exists()


def test_a_temporary_name_is_this_programs_alone(tmp_path):
    (tmp_path / "x.partial").write_text("another tool's")
    write_whole(tmp_path / "x", lambda path: path.write_text("new"))
    assert (tmp_path / "x.partial").read_text() == "another tool's"
