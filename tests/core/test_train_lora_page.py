"""What Pusa Train LoRA shows on the page while the command runs; ComfyUI is a stand-in here."""

import importlib
import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest
from PIL import Image

from tools.comfyui import PACK


@pytest.fixture
def page(monkeypatch):
    """``page.sent``: values of the progress bars and texts, in order; ``page.module(name)`` of nodes/comfyui."""
    sent, previews = [], []

    class ProgressBar:
        def __init__(self, total):
            self.total, self.current = total, 0
            sent.append("new bar")

        def update_absolute(self, value, total=None, preview=None):
            self.current, self.total = value, total or self.total
            (previews if preview else sent).append(preview or (value, self.total))

    def say(text, node_id, client_id):
        sent.append(text)

    stand_ins = {name: MagicMock() for name in ("comfy", "comfy.model_management", "comfy_api", "folder_paths")}
    stand_ins |= {"comfy_api.latest": MagicMock(), "comfy.utils": SimpleNamespace(ProgressBar=ProgressBar)}
    stand_ins["server"] = SimpleNamespace(
        PromptServer=SimpleNamespace(instance=SimpleNamespace(send_progress_text=say, client_id="page"))
    )
    stand_ins["comfy"].utils = stand_ins["comfy.utils"]
    for name, folder in (("stand_in", PACK), ("stand_in.nodes", PACK / "nodes")):
        stand_ins[name] = ModuleType(name)
        stand_ins[name].__path__ = [str(folder)]
    for name, module in stand_ins.items():
        monkeypatch.setitem(sys.modules, name, module)
    yield SimpleNamespace(
        sent=sent, previews=previews, module=lambda name: importlib.import_module(f"stand_in.nodes.comfyui.{name}")
    )
    for name in [name for name in sys.modules if name.startswith("stand_in.")]:
        del sys.modules[name]


def cache_event(clips, captions):
    counts = {"clips": clips, "clips_total": 2, "captions": captions, "captions_total": 3}
    return {"event": "cache", "done": clips + captions, "total": 5, **counts}


def step_event(step, steps=24):
    return {"event": "step", "step": step, "steps": steps, "loss": 1 / step, "lr": 1e-4, "seconds": 0.5}


def test_clips_and_captions_are_named_apart_and_every_phase_has_its_bar(page, tmp_path):
    progress = page.module("progress").TrainingProgress("7", tmp_path)
    page.sent.clear()
    for event in (cache_event(0, 1), cache_event(2, 3), step_event(1), step_event(2)):
        progress.show(event)
    texts = [entry for entry in page.sent if isinstance(entry, str) and entry != "new bar"]
    assert texts[:2] == ["encoding clips: 0 of 2, captions: 1 of 3", "encoding clips: 2 of 2, captions: 3 of 3"]
    bars = [entry for entry in page.sent if entry not in texts]
    assert bars == ["new bar", (1, 5), (5, 5), "new bar", (0, 1), "new bar", (1, 24), (2, 24)]


def test_the_curve_and_the_newest_sample_are_one_picture(page, tmp_path):
    module = page.module("progress")
    progress = module.TrainingProgress("7", tmp_path)
    progress.show(step_event(1))
    (kind, curve, side), *_ = page.previews
    assert kind == "JPEG" and curve.width > curve.height and side >= 512
    Image.new("RGB", (200, 100), "red").save(tmp_path / "sample.png")
    progress.show({"event": "sample", "step": 1, "picture": str(tmp_path / "sample.png"), "video": ""})
    both = page.previews[-1][1]
    assert both.size == (curve.width, curve.height + curve.width // 2)
    assert both.getpixel((5, both.height - 5)) == (255, 0, 0)
    assert both.crop((0, 0, *curve.size)).tobytes() == curve.tobytes()
    progress.show({"event": "validation", "step": 1, "loss": 0.5, "by_sigma": {}})
    assert page.previews[-1][1].size == both.size  # the sample stays


def test_a_long_curve_is_drawn_from_a_bounded_number_of_points(page):
    thinned = page.module("progress").thinned
    points = [(step, float(step)) for step in range(1, 100_001)]
    few = thinned(points, 400)
    assert len(few) == 400 and few[-1][0] == 100_000 and few[0][1] == pytest.approx(125.5)
    assert thinned(points[:5], 400) == points[:5] and thinned([], 400) == []


def test_a_resumed_run_shows_its_earlier_curve_and_what_changed(page, tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss,lr,seconds,validation\n1,0.5,1,1,\n2,0.4,1,1,0.6\n3,0.3,1,1,\n")
    progress = page.module("progress").TrainingProgress("7", tmp_path)
    progress.show({"event": "resumed", "step": 2, "changes": ["train.lr was 1, now it is 2"]})
    progress.show(step_event(3))
    assert [step for step, _ in progress._curve] == [1, 2, 3] and progress._held_out == [(2, 0.6)]
    progress.show({"event": "resampled", "clips": 2, "fps": 16.0, "file": "a.mp4", "rate": 29.97})
    progress.show({"event": "done", "step": 3})
    assert "2 clips resampled to 16 frames per second, such as a.mp4 with 29.97" in progress.summary()
    assert "continued from step 2; train.lr was 1, now it is 2" in progress.summary()


CHILD = """
import json, sys
sys.stdin.read()  # until it is closed
print(json.dumps({"event": "stopped", "step": 12, "checkpoint": "/runs/step_12", "lora": "/runs/my.safetensors"}))
"""


def test_an_interrupt_says_where_the_lora_is_and_that_queueing_again_goes_on(page, tmp_path):
    module = page.module("training")
    progress = page.module("progress").TrainingProgress("7", tmp_path)
    process = module.TrainingProcess([sys.executable, "-c", CHILD])
    process.stop(progress)
    text = page.sent[-1]
    assert "stopped after step 12" in text and "/runs/my.safetensors" in text and "/runs/step_12" in text
    assert "Queue the same again and it goes on" in text


def test_a_save_that_takes_longer_is_told_when_it_ends(page, tmp_path, monkeypatch):
    module = page.module("training")
    monkeypatch.setattr(module, "STOP_SECONDS", 0.05)
    progress = page.module("progress").TrainingProgress("7", tmp_path)
    process = module.TrainingProcess(
        [sys.executable, "-c", CHILD.replace("print", "import time; time.sleep(1)\nprint")]
    )
    process.stop(progress)
    assert page.sent[-1] == "stopped; the checkpoint is still being saved"
    process._ended_within(30)
    for _ in range(100):
        if "stopped after step 12" in page.sent[-1]:
            break
        module.threading.Event().wait(0.1)
    assert "/runs/my.safetensors" in page.sent[-1]


def test_a_message_of_the_command_is_told_in_the_nodes_words(page):
    words = page.module("train_inputs").in_node_words
    assert words("train.lr is 5; use 1e-6") == "learning_rate is 5; use 1e-6"
    text = "data.folder holds no clip; choose another output.folder; --resume goes on from step 2"
    assert words(text) == "dataset holds no clip; choose another output_name; queued again, it goes on from step 2"
    assert words("my.train.lr") == "my.train.lr"  # a name of something else
