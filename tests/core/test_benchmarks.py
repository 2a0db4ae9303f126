"""What the benchmarks measure is what they say."""

import json

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cases import CASES
from benchmarks.compiled_memory import peak
from benchmarks.in_comfyui_watch import Timeline
from benchmarks.report import write_results
from benchmarks.variants import Limit, arithmetic, build_diffusers, build_pusa, build_reference
from benchmarks.video_in_comfyui import seconds_of_parts
from benchmarks.video_report import report
from benchmarks.whole_video import Results
from pusa_core import WanConfig
from tests.conftest import max_error


@pytest.fixture(scope="module")
def network(golden):
    weights = golden("dit_tiny")
    return WanConfig.from_state_dict(weights, num_heads=4), weights


@pytest.mark.parametrize("case", ["v_i2v", "v_mixed", "v_startend", "batch2"])
def test_the_public_arithmetic_is_that_of_the_public_implementation(network, golden, case):
    forward = golden("dit_forward")
    prefix = f"{case}." if case == "batch2" else ""
    latents, context = forward[f"{prefix}x"], forward[f"{prefix}context"]
    velocity = build_reference(*network)(latents, forward[f"{case}.timestep"], context)
    assert max_error(velocity, forward[f"{case}.pusa"]) < 1e-4


@pytest.mark.parametrize("build", [build_pusa, Limit])
def test_the_arithmetic_is_counted(network, build):
    """The limit does the matrix products and attentions that this project does, and so does the formula."""
    config, weights = network
    # the counter knows PyTorch's attention for CPUs only as the products it consists of
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        build(config, weights)(torch.randn(1, 16, 3, 4, 6), torch.rand(1, 3), torch.randn(1, 7, 64))
    assert counter.get_total_flops() == arithmetic(config, tokens=18, frames=3, text=7)


def test_diffusers_gets_one_timestep_for_each_token(network):
    pytest.importorskip("diffusers")
    config, weights = network
    arguments = torch.randn(1, 16, 3, 4, 6), torch.tensor([[0.0, 400.0, 1000.0]]), torch.randn(1, 7, 64)
    with torch.no_grad():
        ours, theirs = (build(config, weights)(*arguments) for build in (build_pusa, build_diffusers))
    assert max_error(ours, theirs) < 1e-4


def test_results_are_written_from_what_was_measured(tmp_path):
    """Ratios are taken round by round: a slow round slows the limit too."""
    seconds = {"limit": [1.0, 2.0, 4.0], "pusa": [1.1, 2.2, 4.4], "pusa, one timestep": [1.0, 2.0, 4.0]}
    memory = {"pusa": 100 << 20, "reference": 400 << 20}
    seconds["reference"] = [1.5, 3.0, 6.0]
    size = {"seconds": seconds, "memory": memory, "errors": {"reference": 1e-6}, "sampler": 0.011}
    size |= {"parts": {"text": 0.022, "time": 0.0022}, "cached": {"frames": 11, "ratio": 0.5}}
    sizes = {name: {**size, "tokens": tokens, "flops": tokens**2} for name, tokens in (("a", 1000), ("b", 3000))}
    found = {"about": {"machine": "a machine", "torch": "2"}, "profile": "cpu", "cases": {CASES["cpu"][0].name: sizes}}
    (tmp_path / "forward-cpu.json").write_text(json.dumps(found))
    write_results(tmp_path)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| this project | 2.200 (1.100 to 4.400) | 1.100 (1.100 to 1.100) | 100 |" in text
    assert "Unequal timesteps take +10.0%" in text and "the sampler around it adds 0.50%" in text
    assert "25% of that of the public" in text and "is 1.67 times faster" in text
    assert "| 3,000 | x9.0 | x1.0 | x1.0 |" in text
    assert (tmp_path / "forward-cpu-0.png").exists()


def test_a_whole_video_is_reported_from_what_was_measured():
    """Passes count for all layers and steps, text for every prompt; what did not run says why."""
    parts = {name: {"seconds": [1.0, 2.0, 3.0]} for name in ("text", "encode", "decode", "write")}
    parts |= {"pass, pusa": {"seconds": [0.5], "of": [4, 40]}, "pass, fp8 products": {"failed": "no GPU"}}
    made = {"text": [0.5], "encode": [1.0], "steps": [2.0, 4.0, 3.0], "decode": [1.0], "write": [0.5]}
    parts["in ComfyUI, comfyui, 4 steps without"] = made
    parts["cold"] = {"marks": {"first step": 9.0}, "file": 2 << 30, "peak": 3 << 30, "host": 1 << 30}
    text = report({"about": {"machine": "a machine"}, "device": "cuda", "parts": parts})
    assert "10 steps with guidance, 110.0 s:" in text and "4 steps without, 28.0 s:" in text
    assert "steps    100.000 s  " + "█" * 40 in text
    assert "4 steps without, 6.0 s:" in text.partition("ComfyUI's own network in ComfyUI")[2]
    assert "| this project, fp8 products | not measured: no GPU |  |" in text
    assert "at most 1.50 times the size of the checkpoint" in text
    assert "not measured yet" in report({"about": {"machine": "a machine"}, "device": "cpu", "parts": parts})


def test_a_part_that_fails_is_a_result_in_one_line_and_is_tried_again(tmp_path):
    def broken():
        raise RuntimeError("no\nmodel")

    results = Results(tmp_path / "video.json", minutes=1)
    results.measure("text", broken)
    results.measure("write", lambda: {"seconds": [1.0]})
    again = Results(tmp_path / "video.json", minutes=1)
    assert again.found["parts"] == {"text": {"failed": "RuntimeError: no model"}, "write": {"seconds": [1.0]}}
    assert again.wants("text") and not again.wants("write")
    assert not Results(tmp_path / "video.json", minutes=0).wants("text")


def test_the_steps_of_a_video_count_the_blocks_that_a_short_network_lacks():
    """At the interval between two steps; what the sampler does around them is counted once."""
    taken = {"positive": 1.0, "negative": 1.0, "start": 3.0, "steps": 9.0, "decode": 4.0, "video": 0.5, "save": 1.5}
    timeline = Timeline(taken, {"steps": [10.0, 12.0, 14.0, 16.0]})
    found = seconds_of_parts(timeline, own=4, of=40)
    assert found == {"text": 2.0, "encode": 3.0, "steps": 9.0 + 9 * 4 * 2.0, "decode": 4.0, "write": 2.0}


def test_the_peak_of_memory_is_what_is_alive_at_once():
    def step(x, attend):
        first = x + 1
        second = torch.cat((first, first))
        del first
        return second + 1

    x = torch.randn(1000, 4)
    with torch.inference_mode():
        assert peak(step, x)[:3] == [2 * x.nbytes, 2 * x.nbytes, 8]  # the last is of the numbers that are added
