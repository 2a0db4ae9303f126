"""Stopping, killing and resuming a training: what comes out is what an undisturbed run gives, bit for bit."""

import json
import os
import random
import shutil
import signal
import time

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks.resume_kills import (
    Killer,
    command,
    differences,
    finish,
    hard_flags,
    make_clips,
    run_with_kills,
    started,
)
from pusa_core import load_lora, load_model
from pusa_core.cli.train import main
from pusa_core.training.resume import newest_checkpoint, write_checkpoint
from pusa_core.weights.checkpoints import expected_shapes, read_checkpoint
from pusa_core.weights.demo_files import DIT
from pusa_core.weights.lora import match_lora
from tests.support.forms import write

STEPS = 14


@pytest.fixture(scope="module")
def straight(demo_clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight") / "run"
    finish(command(demo_clips, folder, *hard_flags(STEPS)))
    return folder


def test_a_training_killed_at_random_moments_ends_as_if_undisturbed(demo_clips, straight, tmp_path):
    run, killer = tmp_path / "run", Killer(random.Random(3), {})
    kills = run_with_kills(command(demo_clips, run, *hard_flags(STEPS), "--resume"), run, killer, 3)
    assert kills >= 1
    assert differences(straight, run, STEPS) == []


def test_a_lora_from_a_base_in_fp8_is_for_every_form_of_the_model(straight, tmp_path):
    path = straight / "pusa_lora.safetensors"
    assert {name.split(".")[0] for name in load_file(path)} == {"diffusion_model"}  # as of any other base
    for file in (DIT, write("scale_weight", load_file(DIT), tmp_path)):
        checkpoint = read_checkpoint(file)
        match = match_lora(load_lora(path), dict(expected_shapes(checkpoint.config)))
        assert (len(match.layers), match.unused) == (60, ())
        assert load_model(file, loras=[(path, 1.4)], device="cpu").source.endswith("strength 1.4")


def pause(process):
    """Hold a process and return the steps that it has reported meanwhile."""
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    os.set_blocking(process.stdout.fileno(), False)
    lines = (process.stdout.read() or b"").splitlines()
    os.set_blocking(process.stdout.fileno(), True)
    return sum(json.loads(line)["event"] == "step" for line in lines)


def test_a_run_of_several_folders_is_resumed_bit_by_bit_wherever_they_are(demo_clips, tmp_path):
    for name in "xy":
        make_clips(tmp_path / name, 2)
    Image.new("RGB", (48, 64), "red").save(tmp_path / "y" / "photo.png")
    (tmp_path / "y" / "photo.txt").write_text("a red square")

    def run(folder, *flags):
        tables = [{"folder": str(tmp_path / "x"), "frames": 5, "excerpt": "all"}]
        tables += [{"folder": str(next(tmp_path.glob("[yz]"))), "repeats": 2, "auto_buckets": True}]
        sources = f"--data.sources={json.dumps(tables)}"
        given = [flag for flag in command(demo_clips, folder) if not flag.startswith(("--data.folder", "--progress"))]
        assert main([*given[3:], f"--data.cache={tmp_path / 'cache'}", sources, "--output.save_every=3", *flags]) == 0

    samples = [{"prompt": "a red square"}, {"prompt": "a red square", "seed": 3}]
    flags = [f"--output.samples={json.dumps(samples)}", "--output.sample_every=6", "--output.sample_steps=1"]
    run(tmp_path / "straight", "--train.steps=6", *flags)
    first, second = sorted((tmp_path / "straight" / "samples").glob("*.mp4"))
    assert (first.name, second.name) == ("step_00000006_1.mp4", "step_00000006_2.mp4")
    assert first.read_bytes() != second.read_bytes()
    run(tmp_path / "stopped", "--train.steps=3")
    (tmp_path / "y").rename(tmp_path / "z")
    run(tmp_path / "stopped", "--train.steps=6", "--resume")
    assert differences(tmp_path / "straight", tmp_path / "stopped", 6) == []
    assert newest_checkpoint(tmp_path / "stopped").info["row"]["step"] == 6


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows cannot hold a process")
@pytest.mark.parametrize("how", ["stdin", "SIGTERM", "SIGINT", "SIGHUP"])
def test_a_stop_saves_at_once_and_loses_no_completed_step(demo_clips, straight, tmp_path, how):
    """At once: in the step that runs when it is asked for, or, where another thread hears it, in the next."""
    flags = [*hard_flags(STEPS), "--output.save_every=0", "--resume"]
    arguments = command(demo_clips, tmp_path / "run", *flags)
    with started([*arguments, "--stop-on-stdin-close"] if how == "stdin" else arguments) as process:
        steps = 0
        while steps < 3:
            steps += json.loads(process.stdout.readline())["event"] == "step"
        time.sleep(0.03)  # into the next step
        steps += pause(process)  # on a busy machine it may be further than what was read
        if how == "stdin":
            process.stdin.close()
        else:
            process.send_signal(getattr(signal, how))
        process.send_signal(signal.SIGCONT)
        rest = [json.loads(line) for line in process.stdout]
        code = process.wait()
        process.stdin = None
    end = rest[-1]
    assert code == 130 and end["event"] == "stopped" and steps <= end["step"] <= steps + 2
    later = [event["step"] for event in rest if event["event"] == "step"]
    assert later == list(range(steps + 1, end["step"] + 1))
    assert load_file(end["lora"]) and end["checkpoint"].endswith(f"step_{end['step']:08d}")
    finish(arguments)
    assert differences(straight, tmp_path / "run", STEPS) == []


def test_a_run_that_watches_an_open_standard_input_ends_well(demo_clips, tmp_path):
    arguments = command(demo_clips, tmp_path / "run", "--train.steps=1", "--stop-on-stdin-close")
    with started(arguments) as process:
        events = [json.loads(line) for line in process.stdout]
        assert process.wait() == 0 and events[-1]["event"] == "done"


def test_a_stop_before_the_first_step_says_so(demo_clips, tmp_path):
    arguments = command(demo_clips, tmp_path / "run", "--train.steps=5", "--stop-on-stdin-close")
    with started(arguments) as process:
        out, _ = process.communicate()  # closes its standard input at once
    assert process.returncode == 130
    last = json.loads(out.splitlines()[-1])
    assert last == {"event": "stopped", "step": 0, "checkpoint": None, "lora": None, "plot": None}


def test_a_damaged_checkpoint_is_passed_over(demo_clips, straight, tmp_path):
    run = tmp_path / "run"
    arguments = command(demo_clips, run, *hard_flags(STEPS))
    finish(arguments)
    state = run / "checkpoints" / f"step_{STEPS:08d}" / "state.safetensors"
    damaged = bytearray(state.read_bytes())
    damaged[-100] ^= 1
    state.write_bytes(damaged)
    events = finish([*arguments, "--resume"])
    assert [event["step"] for event in events if event["event"] == "step"] == [13, 14]
    assert differences(straight, run, STEPS) == []


def test_of_many_checkpoints_the_newest_whole_one_is_found(tmp_path):
    for step in (1, 2, 3):
        write_checkpoint(tmp_path, {"step": step, "row": {}, "identity": {}}, {}, keep=3)
    assert newest_checkpoint(tmp_path).step == 3
    (tmp_path / "checkpoints/step_00000003/run.json").unlink()
    assert newest_checkpoint(tmp_path).step == 2
    for step in (1, 2):
        (tmp_path / f"checkpoints/step_0000000{step}/run.json").write_text("{")
    with pytest.raises(ValueError, match=r"every checkpoint in .* is damaged"):
        newest_checkpoint(tmp_path)


def test_a_difference_in_the_lora_of_either_expert_is_found(tmp_path):
    files = ("checkpoints/step_00000001/state", "pusa_lora_high_noise", "pusa_lora_low_noise")

    def run(name, **other):
        for file in files:
            path = tmp_path / name / f"{file}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({file: torch.full((2,), other.get(file, 0.0))}, path)
        (tmp_path / name / "metrics.csv").write_text("step,seconds\n1,0.5\n")
        return tmp_path / name

    one = run("one")
    assert differences(one, run("same"), 1) == []
    for file in files[1:]:
        assert differences(one, run(file, **{file: 1.0}), 1) == [file]


def test_a_run_goes_on_with_more_clips_and_another_schedule_and_says_so(demo_clips, tmp_path):
    clips = tmp_path / "clips"
    make_clips(clips, 2)
    flags = ["--data.validation=1", "--output.validate_every=1"]
    finish(command(clips, tmp_path / "run", *flags, "--train.steps=2"))
    shutil.copy(demo_clips / "clip3.mp4", clips)
    shutil.copy(demo_clips / "clip3.txt", clips)
    changed = ["--train.steps=4", "--train.schedule=linear", "--train.lr=1e-5", "--resume"]
    events = finish(command(clips, tmp_path / "run", *flags, *changed))
    (resumed,) = [event for event in events if event["event"] == "resumed"]
    assert resumed["step"] == 2 and len(resumed["changes"]) == 4
    assert "data.folder holds 3 clips, 2 before" in resumed["changes"]
    assert [event["lr"] for event in events if event["event"] == "step"] == pytest.approx([5e-6, 2.5e-6])
    trained = newest_checkpoint(tmp_path / "run").info["trained"]
    assert len(trained) == 2  # of three, one is held out still
    again = finish(command(clips, tmp_path / "run", *flags, *changed))
    assert again[-1]["event"] == "done" and not [event for event in again if event["event"] == "step"]
