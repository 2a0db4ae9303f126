"""The training command from clips to a LoRA, in a process of its own."""

import csv
import json

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from benchmarks.resume_kills import command, finish
from pusa_core import load_checkpoint, load_lora, merge_lora
from pusa_core.media.video import read_frames
from pusa_core.training.network import build_network, read_source
from pusa_core.weights.demo_files import DIT

STEPS = 6


@pytest.fixture(scope="module")
def run(demo_clips, tmp_path_factory):
    """A run with all that can be switched on, and its events."""
    folder = tmp_path_factory.mktemp("run")
    Image.new("RGB", (80, 64), "red").save(folder / "first.png")
    flags = [
        f"--train.steps={STEPS}",
        "--train.lr=1e-3",
        "--train.ema=0.5",
        "--data.validation=1",
        "--output.name=squares",
        "--output.save_every=2",
        "--output.validate_every=3",
        "--output.sample_every=6",
        "--output.sample_steps=1",
        "--output.sample_prompt=a red square",
        f"--output.sample_keyframes=0={folder / 'first.png'}",
    ]
    return folder / "run", finish(command(demo_clips, folder / "run", *flags))


def of_kind(events, kind):
    return [event for event in events if event["event"] == kind]


def test_every_step_is_reported_and_the_end_names_files_that_are_there(run):
    folder, events = run
    assert [event["step"] for event in of_kind(events, "step")] == list(range(1, STEPS + 1))
    done = events[-1]
    assert done["event"] == "done" and done["step"] == STEPS
    assert done["lora"] == str(folder / "squares.safetensors") and load_file(done["lora"])
    assert done["plot"] == str(folder / "loss.png") and Image.open(done["plot"]).size == (960, 540)
    assert (folder / "config.toml").read_text().startswith("[model]\n")


def test_the_last_checkpoints_are_kept(run):
    folder, events = run
    assert [event["step"] for event in of_kind(events, "checkpoint")] == [2, 4, 6]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step_00000004", "step_00000006"]


def test_the_csv_holds_every_step_and_the_validation_by_noise_level(run):
    folder, events = run
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == [event["loss"] for event in of_kind(events, "step")]
    for event in of_kind(events, "validation"):
        row = rows[event["step"] - 1]
        assert float(row["validation"]) == event["loss"] == pytest.approx(sum(event["by_sigma"].values()) / 5)
        assert {name: float(row[f"validation_{name}"]) for name in event["by_sigma"]} == event["by_sigma"]
    assert [row["step"] for row in rows if row["validation"]] == ["3", "6"]


def test_the_sample_starts_with_its_keyframe(run):
    (sample,) = of_kind(run[1], "sample")
    frames = read_frames(sample["video"])
    assert frames.shape == (13, 64, 64, 3)
    red, green, blue = frames[0].mean(dim=(0, 1)).tolist()  # as far as the demo's small VAE keeps it
    assert red > 0.7 and green < 0.35 and blue < 0.35
    assert Image.open(sample["picture"]).size > (64, 64)


def test_the_result_is_the_moving_average_under_comfyuis_names(run):
    folder, events = run
    state = load_file(folder / "checkpoints" / "step_00000006" / "state.safetensors")
    result = load_file(events[-1]["lora"])
    name = "blocks.3.ffn.2"
    assert torch.equal(result[f"diffusion_model.{name}.lora_B.weight"], state[f"ema/{name}.up"])
    assert not torch.equal(state[f"ema/{name}.up"], state[f"weights/{name}.up"])
    with safe_open(events[-1]["lora"], framework="pt") as file:
        assert file.metadata()["objective"] == "fafm" and file.metadata()["steps"] == str(STEPS)


def test_the_result_merged_computes_what_was_trained(run, demo_clips, demo_model):
    from pusa_core.cli.train import parse_arguments

    folder, events = run
    arguments = command(demo_clips, folder, "--train.rank=8")[3:]
    _, config = parse_arguments(arguments)
    trained, adapters = build_network(read_source(config), config, "cpu")
    state = load_file(folder / "checkpoints" / "step_00000006" / "state.safetensors")
    with torch.no_grad():
        for name, adapter in adapters.items():
            adapter.down.copy_(state[f"ema/{name}.down"])
            adapter.up.copy_(state[f"ema/{name}.up"])
    merged = demo_model().float()
    inputs = torch.randn(1, 16, 4, 8, 8), torch.rand(1, 4) * 1000, torch.randn(1, 24, 4096)
    with torch.no_grad():
        plain = merged(*inputs)
        merge_lora(merged, load_lora(events[-1]["lora"]))
        expected, found = trained.eval()(*inputs), merged(*inputs)
    assert (found - expected).abs().max() < 1e-4 < (plain - expected).abs().max()


def test_a_finished_run_is_done_at_once(run, demo_clips):
    folder, events = run
    flags = [f"--train.steps={STEPS}", "--train.lr=1e-3", "--train.ema=0.5", "--data.validation=1"]
    again = finish(command(demo_clips, folder, *flags, "--output.name=squares", "--resume"))
    assert [event["event"] for event in again] == ["done"]
    assert again[0]["lora"] == events[-1]["lora"] and again[0]["step"] == STEPS


def test_more_steps_at_a_constant_rate_go_on_from_the_end(demo_clips, tmp_path):
    finish(command(demo_clips, tmp_path / "two", "--train.steps=2"))
    events = finish(command(demo_clips, tmp_path / "two", "--train.steps=3", "--resume"))
    assert [event["step"] for event in of_kind(events, "step")] == [3]
    finish(command(demo_clips, tmp_path / "three", "--train.steps=3"))
    states = [load_file(tmp_path / run / "checkpoints/step_00000003/state.safetensors") for run in ("two", "three")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_resume_without_a_run_starts_one(demo_clips, tmp_path):
    assert finish(command(demo_clips, tmp_path / "run", "--train.steps=1", "--resume"))[-1]["event"] == "done"


def test_an_estimate_loads_and_writes_nothing(demo_clips, tmp_path):
    events = finish(command(demo_clips, tmp_path / "run", "--estimate"))
    assert [event["event"] for event in events] == ["estimate"]
    assert events[0]["parameters"] == 319488 and events[0]["memory_gib"] > 0 and events[0]["hours"] > 0
    assert not (tmp_path / "run").exists()


def test_full_fine_tuning_from_a_toml_file_gives_a_checkpoint(demo_clips, tmp_path):
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in command(demo_clips, tmp_path / "run")[4:])
    sections: dict[str, list[str]] = {}
    for name, value in flags.items():
        section, key = name.split(".")
        number = value.isdigit()
        sections.setdefault(section, []).append(f"{key} = {value if number else json.dumps(value)}")
    text = "\n".join(line for name, lines in sections.items() for line in (f"[{name}]", *lines))
    text = text.replace('"fp32"', '"bf16"')
    (tmp_path / "train.toml").write_text(text)
    start = [*command(demo_clips, tmp_path)[:4], "--config", str(tmp_path / "train.toml")]
    events = finish([*start, "--train.mode=full", "--train.steps=2", "--train.offload_checkpoints=true"])
    before, after = load_checkpoint(DIT), load_checkpoint(events[-1]["lora"])
    assert before.keys() == after.keys()
    weight = "blocks.0.ffn.0.weight"
    assert after[weight].dtype == torch.bfloat16 and not torch.equal(before[weight].bfloat16(), after[weight])
    state = load_file(tmp_path / "run/checkpoints/step_00000002/state.safetensors")
    assert state[f"weights/{weight}"].dtype == torch.float32


def test_training_goes_on_from_a_lora(demo_clips, run, tmp_path):
    start = run[1][-1]["lora"]
    events = finish(
        command(demo_clips, tmp_path / "run", "--train.steps=1", "--train.lr=1e-9", f"--model.init_lora={start}")
    )
    before, after = load_file(start), load_file(events[-1]["lora"])
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
