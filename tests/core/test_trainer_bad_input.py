"""What the training command refuses, with the name of what is wrong, and what it survives."""

import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.resume_kills import command, finish
from pusa_core import fafm_loss
from pusa_core.cli.train import main
from pusa_core.storage.atomic import SaveError, write_whole
from pusa_core.weights.demo_files import DIT
from tests.support.patience import HANGS
from tests.support.training_runs import ROOT, refusal


def last_line(capfd, arguments, code=2):
    """The last line that the command writes, run within this process."""
    assert main(arguments[3:]) == code
    return capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--train.lr=5", "error: train.lr is 5; use 1e-6 to 1e-2"),
        ("--train.lr=fast", "error: train.lr is 'fast'; it must be a number"),
        ("--train.rank=300", "error: LoRA rank 300 does not fit a layer of 1024 x 256; use 1 to 256"),
        ("--train.stepps=3", "error: unknown option train.stepps; do you mean train.steps?"),
        ("--data.frames=12", "12"),
        ("--model.vae=/nowhere/vae", "no such file: /nowhere/vae"),
        ("--config=/nowhere/train.toml", "error: no such file: /nowhere/train.toml"),
        ("--progress=loud", "--progress"),
    ],
)
def test_an_option_of_nonsense_is_refused_before_anything_loads(capfd, demo_clips, tmp_path, flag, message):
    arguments = [part for part in command(demo_clips, tmp_path / "run") if not part.startswith(flag.split("=")[0])]
    assert message in last_line(capfd, [*arguments[:3], "--progress=bar", *arguments[3:], flag])
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_usable_clip_is_refused_with_the_reasons(capfd, demo_clips, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "notes.mp4").write_bytes(b"no video")
    (clips / "notes.txt").write_text("a caption")
    shutil.copy(demo_clips / "clip0.mp4", clips / "silent.mp4")
    arguments = [part for part in command(clips, tmp_path / "run") if "progress" not in part]
    line = last_line(capfd, arguments)
    assert "holds no usable clip (2 skipped" in line and "silent.mp4: no caption" in line and "notes.mp4" in line


def test_another_kind_of_model_is_refused(capfd, demo_clips, tmp_path):
    weights = load_file(DIT)
    weights["patch_embedding.weight"] = torch.zeros(256, 36, 1, 2, 2)
    save_file(weights, tmp_path / "i2v.safetensors")
    arguments = [part for part in command(demo_clips, tmp_path / "run") if "progress" not in part]
    line = last_line(capfd, [*arguments, f"--model.checkpoint={tmp_path / 'i2v.safetensors'}"])
    assert "image-to-video" in line and "text-to-video checkpoint instead" in line


def test_a_run_is_neither_overwritten_nor_continued_by_another(demo_clips, tmp_path):
    run = tmp_path / "run"
    arguments = command(demo_clips, run, "--train.steps=2", "--output.save_every=1")
    finish(arguments)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "already holds a run; add --resume" in refusal(arguments)
    assert "train.rank was 8, now it is 4, but the saved weights have the other rank; set it back" in refusal(
        [*arguments, "--resume", "--train.rank=4"]
    )
    other = tmp_path / "other.safetensors"
    save_file({name: value + 1 for name, value in load_file(DIT).items()}, other)
    assert "model.checkpoint was" in refusal([*arguments, "--resume", f"--model.checkpoint={other}"])
    clips = shutil.copytree(demo_clips, tmp_path / "clips")
    (clips / "clip0.txt").write_text("something else")
    line = refusal([*arguments, "--resume", f"--data.folder={clips}"])
    assert "data.folder was" in line and "1 are missing or have changed, such as clip0.mp4" in line
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_result_of_that_name_is_not_overwritten(capfd, demo_clips, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "pusa_lora.safetensors").write_bytes(b"precious")
    arguments = [part for part in command(demo_clips, tmp_path / "run") if "progress" not in part]
    assert "pusa_lora.safetensors exists" in last_line(capfd, arguments)


@pytest.mark.parametrize("part", ["loss", "gradient"])
def test_a_training_that_diverges_ends_before_its_weights_are_lost(capfd, demo_clips, tmp_path, monkeypatch, part):
    arguments = [part for part in command(demo_clips, tmp_path / "run") if "progress" not in part]
    flags = ["--output.save_every=1", "--resume"]
    assert main([*arguments[3:], *flags, "--train.steps=2"]) == 0

    def diverged(*given, **options):
        loss = fafm_loss(*given, **options)
        if part == "loss":
            return loss * float("nan")
        loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    monkeypatch.setattr("pusa_core.training.loop.fafm_loss", diverged)
    line = last_line(capfd, [*arguments, *flags, "--train.steps=4"], code=1)
    assert line.startswith("error: the loss of step 3 is") and "train with a smaller train.lr (it is 0.0001)" in line
    assert ("nan, its" in line) == (part == "loss") and "--resume goes on from step 1" in line
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())[-1] == "step_00000002"


def test_a_full_disk_loses_nothing_that_was_saved(demo_clips, tmp_path):
    pytest.importorskip("resource")  # a limit on the size of files stands for a full disk; Windows has none
    run = tmp_path / "run"
    arguments = command(demo_clips, run, "--output.save_every=1", "--resume")
    finish([*arguments, "--train.steps=2"])
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))\n"
        "from pusa_core.cli.train import main\nimport sys\nsys.exit(main(sys.argv[1:]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", limited, *arguments[3:], "--train.steps=4"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert ended.returncode == 1, ended.stderr
    assert f"error: cannot write {run / 'checkpoints' / 'step_00000004'}" in ended.stderr.splitlines()[-1]
    assert "what was saved before is kept" in ended.stderr.splitlines()[-1]
    assert '"step": 4' in ended.stdout  # it went on after step 3 could not be saved
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step_00000001", "step_00000002"]
    finish([*arguments, "--train.steps=4"])
    finish(command(demo_clips, tmp_path / "straight", "--train.steps=4"))
    states = [
        load_file(tmp_path / name / "checkpoints/step_00000004/state.safetensors") for name in ("run", "straight")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "loss.png"
    path.write_text("old")

    def fail(partial):
        partial.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(SaveError, match=r"loss\.png .*No space left on device"):
        write_whole(path, fail)
    assert [file.name for file in tmp_path.iterdir()] == ["loss.png"] and path.read_text() == "old"
