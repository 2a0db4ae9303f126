"""Wan2.2's two experts in one run: turns, ranges, a LoRA each, and one of them on the device at a time."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from benchmarks.resume_kills import command, finish
from pusa_core import WanConfig, load_model
from pusa_core.cli.train import parse_arguments
from pusa_core.training.adapters import attach_lora
from pusa_core.training.config import TrainOptions
from pusa_core.training.experts import Expert, Residency, expert_ranges
from pusa_core.training.launch import Launch
from pusa_core.training.network import TrainedWan, trainable
from pusa_core.training.turns import Turns
from pusa_core.weights.demo_files import DIT
from tests.support.training_runs import refusal

NAMES = ("pusa_lora_high_noise", "pusa_lora_low_noise")


@pytest.fixture(scope="module")
def low_noise(tmp_path_factory):
    """Another model of the demo's size."""
    path = tmp_path_factory.mktemp("low") / "low.safetensors"
    random = torch.Generator().manual_seed(0)
    weights = load_file(DIT)
    save_file(
        {name: value + 0.01 * torch.randn(value.shape, generator=random) for name, value in weights.items()}, path
    )
    return path


def both(clips, run, low_noise, *flags):
    return command(clips, run, f"--model.low_noise_checkpoint={low_noise}", "--train.switch_every=2", *flags)


def tensors_of(run, step):
    found = load_file(run / f"checkpoints/step_{step:08d}/state.safetensors")
    for name in NAMES:
        found |= {f"{name}/{key}": value for key, value in load_file(run / f"{name}.safetensors").items()}
    return found


def test_turns_share_the_steps():
    turns = Turns(((0.875, 1.0), (0.0, 0.875)), every=3)
    assert [turns.of(step) for step in range(10)] == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1]
    for network in (0, 1):
        own = [step for step in range(20) if turns.of(step) == network]
        assert [turns.before(step, network) for step in own] == list(range(len(own)))
        assert turns.before(20, network) == len(own)


def test_both_experts_are_trained_and_resumed_with_the_same_bits(demo_clips, low_noise, tmp_path):
    flags = ["--train.ema=0.9", "--data.validation=1", "--output.validate_every=3", "--train.schedule=cosine"]
    events = finish(both(demo_clips, tmp_path / "straight", low_noise, *flags, "--train.steps=8"))
    stopped = tmp_path / "run"
    finish(both(demo_clips, stopped, low_noise, *flags, "--train.steps=8", "--output.save_every=3", "--output.keep=9"))
    for step in (6, 8):  # as if killed before the second save: in the middle of the second turn of the low-noise expert
        for file in sorted((stopped / f"checkpoints/step_{step:08d}").rglob("*"), reverse=True):
            file.unlink()
        (stopped / f"checkpoints/step_{step:08d}").rmdir()
    resumed = finish(both(demo_clips, stopped, low_noise, *flags, "--train.steps=8", "--resume"))
    assert [event["step"] for event in resumed if event["event"] == "step"] == [4, 5, 6, 7, 8]
    one, other = tensors_of(tmp_path / "straight", 8), tensors_of(stopped, 8)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    rates = [event["lr"] for event in events if event["event"] == "step"]
    assert rates[0] == rates[2] == 1e-4 and rates[1] == rates[3]  # each has the schedule of its own four steps
    (validation, _) = (event for event in events if event["event"] == "validation")
    assert list(validation["by_sigma"])[::5] == ["0.8875", "0.0875"]
    check_results(tmp_path / "straight", events[-1], low_noise)


def check_results(run, end, low_noise):
    files = [str((run / f"{name}.safetensors").resolve()) for name in NAMES]
    assert [end["lora"], end["lora_low_noise"]] == files
    about = []
    for path in files:
        with safe_open(path, framework="pt") as file:
            about.append(file.metadata())
    assert [entry["base"] for entry in about] == [DIT.name, low_noise.name]
    assert [entry["noise_range"] for entry in about] == ["[0.875, 1.0]", "[0.0, 0.875]"]
    assert load_model(low_noise, loras=[(files[1], 1.0)], device="cpu")
    trained = [load_file(path) for path in files]
    assert all(any(value.any() for name, value in lora.items() if "lora_B" in name or "up" in name) for lora in trained)


def test_a_sample_video_takes_each_expert_where_it_belongs(demo_clips, low_noise, tmp_path):
    flags = ["--output.sample_every=2", "--output.sample_steps=4", "--train.steps=2"]
    events = finish(both(demo_clips, tmp_path / "run", low_noise, *flags))
    (sample,) = [event for event in events if event["event"] == "sample"]
    alone = finish(command(demo_clips, tmp_path / "alone", *flags))
    (other,) = [event for event in alone if event["event"] == "sample"]
    with open(sample["picture"], "rb") as one, open(other["picture"], "rb") as two:
        assert one.read() != two.read()  # made by the high-noise expert, and finished by another


def expert(name):
    network = TrainedWan(WanConfig(dim=128, ffn_dim=256, num_heads=1, num_layers=1, text_dim=8))
    adapters = attach_lora(network, 4)
    optimizer = torch.optim.AdamW(trainable(network).values())
    return Expert(name, "base", (0.0, 1.0), Launch(TrainOptions(device="cpu")), network, adapters, optimizer, 0.9)


def test_one_expert_at_a_time_is_on_the_device(monkeypatch):
    experts = [expert("high_noise"), expert("low_noise")]
    residency = Residency(experts)
    moved = []
    for each in experts:
        monkeypatch.setattr(each, "leave", lambda each=each: moved.append(("leaves", each.name)))
        monkeypatch.setattr(each, "come_back", lambda each=each: moved.append(("comes", each.name)))
    latents, levels, context = torch.zeros(1, 16, 1, 2, 2), torch.zeros(1, 1), torch.zeros(1, 4, 8)
    for index in (0, 0, 1, 0):
        experts[index].model(latents, levels, context)
        assert residency.resident is experts[index]
    assert moved == [
        ("comes", "high_noise"),
        ("leaves", "high_noise"),
        ("comes", "low_noise"),
        ("leaves", "low_noise"),
        ("comes", "high_noise"),
    ]


def test_the_ranges_meet_where_sampling_switches(demo_clips, low_noise, tmp_path):
    _, config = parse_arguments(both(demo_clips, tmp_path / "run", low_noise)[3:])
    assert expert_ranges(config) == {"high_noise": (0.875, 1.0), "low_noise": (0.0, 0.875)}
    with pytest.raises(ValueError, match="each expert has its own; leave it out"):
        parse_arguments(both(demo_clips, tmp_path / "run", low_noise, "--train.noise_range=[0, 0.5]")[3:])
    with pytest.raises(ValueError, match="low_noise_checkpoint is not; name that too"):
        parse_arguments(command(demo_clips, tmp_path / "run", f"--model.low_noise_init_lora={low_noise}")[3:])


def test_a_low_noise_expert_that_is_none_is_refused(demo_clips, tmp_path, low_noise):
    flags = [f"--model.low_noise_checkpoint={low_noise.with_name('none.safetensors')}"]
    assert "model.low_noise_checkpoint: no such file" in refusal(command(demo_clips, tmp_path / "run", *flags))
