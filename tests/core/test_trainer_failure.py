"""A training that fails keeps what one that is stopped keeps, says what failed, and its advice works."""

import json
import os
import re
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.resume_kills import command, started
from pusa_core import fafm_loss
from pusa_core.cli.train import main
from pusa_core.training.loop import Trainer
from pusa_core.training.resume import newest_checkpoint

QUIET = ["--output.save_every=0"]


@pytest.fixture
def run(demo_clips, tmp_path, capfd):
    """Run the command in this process: ``run(*flags)`` -> exit code, events, last line of the log."""

    def call(*flags, clips=demo_clips):
        code = main([*command(clips, tmp_path / "run")[3:], *QUIET, *flags])
        lines = "".join(capfd.readouterr()).splitlines()  # once it reports, its standard output is standard error
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return code, events, next((line for line in reversed(lines) if not line.startswith("{")), "")

    return call


def failing_at(monkeypatch, step, error):
    """Raise ``error`` in place of a step."""
    take_step = Trainer.take_step

    def fail(self):
        if self.step + 1 == step:
            raise error
        take_step(self)

    monkeypatch.setattr(Trainer, "take_step", fail)


def state(tmp_path, step):
    return load_file(tmp_path / "run" / "checkpoints" / f"step_{step:08d}" / "state.safetensors")


@pytest.mark.parametrize(
    "error, words",
    [
        (
            OSError(5, "Input/output error", "/data/clips"),
            "step 3 failed: OSError: .*Input/output error: '/data/clips'",
        ),
        (
            torch.OutOfMemoryError("12 GiB"),
            "step 3 failed: the GPU's memory is full; turn on train.offload_checkpoints",
        ),
        (RuntimeError("CUDA error"), "step 3 failed: RuntimeError: CUDA error"),
        (MemoryError(), "step 3 failed: MemoryError"),
        (ValueError("no such thing"), "step 3 failed: no such thing"),
    ],
)
def test_a_failure_in_the_loop_saves_the_last_step_and_names_what_failed(run, tmp_path, monkeypatch, error, words):
    failing_at(monkeypatch, 3, error)
    code, events, line = run("--train.steps=4")
    lora, checkpoint = tmp_path / "run" / "pusa_lora.safetensors", tmp_path / "run" / "checkpoints" / "step_00000002"
    assert code == 1 and re.match(f"error: {words}", line)
    assert f"step 2 is saved in {lora} and {checkpoint}; --resume goes on from step 2" in line
    assert events[-1]["event"] == "failed" and events[-1]["checkpoint"] == str(checkpoint)
    assert load_file(lora) and newest_checkpoint(tmp_path / "run").step == 2
    monkeypatch.undo()
    code, events, _ = run("--train.steps=4", "--resume")
    assert code == 0 and [event["step"] for event in events if event["event"] == "step"] == [3, 4]


def test_a_cache_that_vanishes_ends_with_a_checkpoint_and_its_name(run, demo_clips, tmp_path, monkeypatch):
    clips = shutil.copytree(demo_clips, tmp_path / "clips")
    take_step = Trainer.take_step

    def vanish(self):
        take_step(self)
        if self.step == 2:
            shutil.rmtree(clips / ".pusa_cache")

    monkeypatch.setattr(Trainer, "take_step", vanish)
    code, events, line = run("--train.steps=9", clips=clips)
    step = max(event["step"] for event in events if event["event"] == "step")
    assert code == 1 and "the cache entry" in line and ".pusa_cache" in line and "data.cache" in line
    assert newest_checkpoint(tmp_path / "run").step == step >= 2


def test_a_failure_of_saving_is_told_with_what_failed_first(run, tmp_path, monkeypatch):
    failing_at(monkeypatch, 2, RuntimeError("the disk is gone"))
    monkeypatch.setattr("pusa_core.training.resume.save_file", lambda *_: (_ for _ in ()).throw(OSError("no disk")))
    code, _, line = run("--train.steps=4")
    assert code == 1 and "step 2 failed: RuntimeError: the disk is gone; saving failed as well" in line
    assert "cannot write" in line and "no disk" in line
    assert load_file(tmp_path / "run" / "pusa_lora.safetensors")  # what could be saved is


def test_weights_that_are_between_two_steps_are_not_saved(run, tmp_path, monkeypatch):
    step = torch.optim.AdamW.step

    def fail(self, *args):
        step(self, *args)
        if self.state[self.param_groups[0]["params"][0]]["step"] == 3:
            raise RuntimeError("half way")

    monkeypatch.setattr(torch.optim.AdamW, "step", fail)
    code, _, line = run("--train.steps=4", "--output.save_every=1")
    assert code == 1 and "changing the weights" in line and "--resume goes on from step 2" in line
    assert newest_checkpoint(tmp_path / "run").step == 2


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal")
def test_a_closed_terminal_saves(demo_clips, tmp_path):
    """SIGHUP, and a standard error that cannot be written any more."""
    with started(command(demo_clips, tmp_path / "run", "--train.steps=100000", *QUIET)) as process:
        while json.loads(process.stdout.readline())["event"] != "step":
            pass
        process.stderr.close()
        os.kill(process.pid, signal.SIGHUP)
        rest = [json.loads(line) for line in process.stdout]
        code = process.wait()
        process.stderr = process.stdin = None
    assert code == 130 and rest[-1]["event"] == "stopped" and load_file(rest[-1]["lora"])


def diverging(monkeypatch, step, lr):
    """The loss of a step is not finite as long as the learning rate is not below ``lr``."""

    def loss(*given, **options):
        value = fafm_loss(*given, **options)
        return value * float("nan") if Trainer.now.step + 1 >= step and Trainer.now.options.lr >= lr else value

    take_step = Trainer.take_step

    def remember(self):
        Trainer.now = self
        take_step(self)

    monkeypatch.setattr(Trainer, "now", None, raising=False)
    monkeypatch.setattr(Trainer, "take_step", remember)
    monkeypatch.setattr("pusa_core.training.loop.fafm_loss", loss)


def test_the_advice_about_a_loss_that_is_not_finite_works(run, tmp_path, monkeypatch):
    diverging(monkeypatch, 4, 1e-4)
    code, _, line = run("--train.steps=6", "--output.save_every=2")
    assert code == 1 and line.startswith("error: the loss of step 4 is nan")
    advice = re.search(r"smaller train\.lr \(it is 0\.0001\), such as (\S+?); .*--resume goes on from step 2", line)
    assert advice
    code, events, _ = run("--train.steps=6", "--resume", f"--train.lr={advice[1]}")
    assert code == 0 and [event["step"] for event in events if event["event"] == "step"] == [3, 4, 5, 6]
    (resumed,) = [event for event in events if event["event"] == "resumed"]
    assert resumed["changes"] == ["train.lr was 0.0001, now it is 1e-05"]
    assert {event["lr"] for event in events if event["event"] == "step"} == {1e-5}


def test_a_checkpoint_that_leads_to_the_same_loss_again_is_given_up(run, tmp_path, monkeypatch):
    diverging(monkeypatch, 3, 0)
    for start in (2, 0):  # step 2 may have been an accident of the hardware; the second time it was not
        code, _, line = run("--train.steps=4", "--resume")
        assert code == 1 and line.endswith(f"goes on {f'from step {start}' if start else 'from the beginning'}")
    monkeypatch.undo()
    _, events, _ = run("--train.steps=4", "--resume")
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3, 4]


def test_weights_that_are_not_finite_are_never_saved(run, tmp_path, monkeypatch):
    take_step = Trainer.take_step

    def spoil(self):
        take_step(self)
        if self.step == 3:
            next(iter(self.setup.experts[0].parameters.values())).data.fill_(float("inf"))

    monkeypatch.setattr(Trainer, "take_step", spoil)
    code, _, line = run("--train.steps=6", "--output.save_every=1")
    assert code == 1 and "the weights after step 3 are not finite" in line and "goes on from step 2" in line
    assert all(value.isfinite().all() for value in state(tmp_path, 2).values())
    assert newest_checkpoint(tmp_path / "run").step == 2
