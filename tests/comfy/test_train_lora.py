"""Pusa Train LoRA in a real server: from clips to a LoRA that the next node loads."""

import io
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors import safe_open

from tests.support.patience import wait_for
from tools.comfy_client import ComfyClient, Graph, RunFailed
from tools.comfyui import PACK

STEPS = 4


def training(**changes: Any) -> Graph:
    """The demo's graph up to the training, short, without samples, its LoRA loaded and its plot kept."""
    whole = json.loads((PACK / "workflows" / "api" / "demo_train_lora.json").read_text())
    kept = ("PusaDemoDataset", "PusaTrainLora", "PusaLoad")
    graph = {key: node for key, node in whole.items() if node["class_type"] in kept}
    for node in graph.values():
        if node["class_type"] == "PusaDemoDataset":
            node["inputs"]["clips"] = 2
        if node["class_type"] == "PusaTrainLora":
            inputs = {"steps": STEPS, "save_every": 2, "sample_every": 0, "sample_prompt": "", "batch": 1, "rank": 4}
            node["inputs"] |= inputs | changes
            del node["inputs"]["sample_image"]
    return graph


def key_of(graph: Graph, kind: str) -> str:
    return next(key for key, node in graph.items() if node["class_type"] == kind)


def checkpoints(base: Path, name: str) -> list[str]:
    """Names of those that are whole: one that is being written, or was when the process died, is called ".partial"."""
    found = (base / "output" / "pusa_training" / name / "checkpoints").glob("step_*")
    return sorted(path.name for path in found if not path.suffix)


def child(base: Path) -> int | None:
    """Process id of the training command of the server at ``base``."""
    found = subprocess.run(["pgrep", "-f", f"training_child.py.*{base}"], capture_output=True, text=True)
    return int(found.stdout.split()[0]) if found.stdout else None


def status(comfy: ComfyClient, prompt: str) -> str:
    entry = comfy.get_json(f"/history/{prompt}").get(prompt)
    return entry["status"]["status_str"] if entry else ""


def test_the_lora_is_trained_registered_and_loaded_in_one_graph(comfy: ComfyClient, server_base: Path) -> None:
    sampled = {"sample_every": STEPS, "sample_prompt": "a small red square moves slowly left"}
    graph = training(output_name="whole", expert="low noise", excerpt="spread", frames=17, p_history=0.5, **sampled)
    graph["show"] = {"class_type": "PreviewAny", "inputs": {"source": [key_of(graph, "PusaLoad"), 1]}}
    outputs = comfy.run(graph)
    plot = comfy.file(outputs[key_of(graph, "PusaTrainLora")]["images"][0])
    assert min(Image.open(io.BytesIO(plot)).size) > 100
    assert "whole.safetensors" in comfy.get_json("/models/loras")
    assert "rank 4" in outputs["show"]["text"][0]
    assert len(checkpoints(server_base, "whole")) == 2
    samples = server_base / "output" / "pusa_training" / "whole" / "samples"
    assert {path.suffix for path in samples.iterdir()} == {".png", ".mp4"}
    options = (samples.parent / "config.toml").read_text(encoding="utf-8")
    for line in ("noise_range = [0.0, 0.875]", 'excerpt = "spread"', "excerpt_count = 4", "p_history = 0.5"):
        assert line in options.splitlines()


def test_both_experts_are_trained_in_turns_and_each_has_its_lora(comfy: ComfyClient, server_base: Path) -> None:
    """The demo model stands for both experts."""
    graph = training(output_name="pair", steps=20, model_name_low="pusa_demo_wan_t2v.safetensors")
    loader, trainer = key_of(graph, "PusaLoad"), key_of(graph, "PusaTrainLora")
    graph["low"] = {**graph[loader], "inputs": {**graph[loader]["inputs"], "lora_name": [trainer, 3]}}
    graph["show"] = {"class_type": "PreviewAny", "inputs": {"source": [loader, 1]}}
    graph["show_low"] = {"class_type": "PreviewAny", "inputs": {"source": ["low", 1]}}
    outputs = comfy.run(graph)
    shown = {name: outputs[name]["text"][0] for name in ("show", "show_low")}
    assert "pair_high_noise.safetensors" in shown["show"] and "pair_low_noise.safetensors" in shown["show_low"]
    assert all("60 of 60 updates matched" in text for text in shown.values())
    trained = [server_base / "models" / "loras" / f"pair_{which}_noise.safetensors" for which in ("high", "low")]
    assert [steps_of(path) for path in trained] == ["20", "20"]
    assert trained[0].read_bytes() != trained[1].read_bytes()


def test_interrupt_stops_within_few_steps_and_the_next_run_goes_on(comfy: ComfyClient, server_base: Path) -> None:
    graph = training(output_name="interrupted", steps=100_000, save_every=0)
    metrics = server_base / "output" / "pusa_training" / "interrupted" / "metrics.csv"
    prompt = comfy.queue(graph)
    wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 3)
    assert prompt in str(comfy.get_json("/queue")["queue_running"])  # the server answers meanwhile
    before = len(metrics.read_text().splitlines()) - 1
    comfy.post("/interrupt", {})
    wait_for(lambda: status(comfy, prompt))
    wait_for(lambda: child(server_base) is None)
    (saved,) = checkpoints(server_base, "interrupted")
    step = int(saved.removeprefix("step_"))
    assert before <= step < before + 100  # of the 100,000 to go
    comfy.run(training(output_name="interrupted", steps=step + 2, save_every=1))
    numbers = [int(line.split(",")[0]) for line in metrics.read_text().splitlines()[1:]]
    assert numbers == list(range(1, step + 3))


def steps_of(lora: Path) -> str:
    with safe_open(lora, framework="pt") as file:
        return file.metadata()["steps"]


def test_a_finished_run_goes_on_with_more_steps_and_replaces_its_lora(comfy: ComfyClient, server_base: Path) -> None:
    lora = server_base / "models" / "loras" / "continued.safetensors"
    for steps in (2, 3):
        comfy.run(training(output_name="continued", steps=steps, learning_rate=1e-3 / steps))
        assert steps_of(lora) == str(steps)
    with pytest.raises(RunFailed, match=r"rank was 4, now it is 8, but .*; set it back, or choose another output_name"):
        comfy.run(training(output_name="continued", steps=4, rank=8))
    lora.write_bytes(b"a LoRA from elsewhere")
    with pytest.raises(RunFailed, match=r"continued\.safetensors is there already .* another output_name"):
        comfy.run(training(output_name="continued", steps=4))
    assert lora.read_bytes() == b"a LoRA from elsewhere"


@pytest.mark.parametrize("name", ["../elsewhere", "CON", "name.safetensors", "pusa_demo_lora"])
def test_a_name_that_cannot_be_used_marks_its_input_alone_and_says_so_once(comfy: ComfyClient, name: str) -> None:
    graph = training(output_name=name)
    request = urllib.request.Request(
        f"{comfy.url}/prompt", json.dumps({"prompt": graph}).encode(), {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    (node,) = json.loads(refused.value.read())["node_errors"].values()
    (error,) = node["errors"]
    assert error["extra_info"]["input_name"] == "output_name"
    assert error["details"].count("output_name") == 1 and name in error["details"]


def test_a_crash_is_a_readable_error_and_the_server_lives(comfy: ComfyClient, server_base: Path) -> None:
    prompt = comfy.queue(training(output_name="crashed", steps=100_000, save_every=1))
    wait_for(lambda: len(checkpoints(server_base, "crashed")) > 1)
    process = child(server_base)
    assert process is not None
    os.kill(process, signal.SIGKILL)
    with pytest.raises(RunFailed, match=r"the training process ended with exit code -9; queue the graph again"):
        comfy.wait(prompt)
    assert comfy.get_json("/system_stats")
    step = int(checkpoints(server_base, "crashed")[-1].removeprefix("step_"))
    comfy.run(training(output_name="crashed", steps=step + 1, save_every=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 300}, r"rank"),
        ({"width": 72}, r"width is 72|72"),
        ({"frames": 80}, r"80 frames|frames is 80"),
        ({"output_name": "../elsewhere"}, r"output_name"),
        ({"output_name": "pusa_demo_lora"}, r"a LoRA pusa_demo_lora\.safetensors exists already"),
        ({"validation": 2.0}, r"validation"),
        ({"warmup": STEPS + 1}, rf"^warmup is {STEPS + 1}; use 0 to {STEPS} \(steps\)"),
        (
            {"expert": "low noise", "model_name_low": "pusa_demo_wan_t2v.safetensors"},
            r"expert is \[0\.0, 0\.875\], but with model_name_low",
        ),
        ({"dataset": "nothing_here"}, r'dataset is "nothing_here", but there is no folder'),
    ],
)
def test_refused_by_name(comfy: ComfyClient, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        comfy.run(training(**{"output_name": "refused", **changes}))


def test_a_folder_without_a_usable_clip_is_refused(comfy: ComfyClient, server_base: Path) -> None:
    folder = server_base / "input" / "no_clips"
    folder.mkdir()
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "broken.txt").write_text("a caption")
    with pytest.raises(RunFailed, match=r"no usable clip|broken\.mp4"):
        comfy.run(training(output_name="unusable", dataset="no_clips"))
