"""pusa_core as a library and as an installed package: what a user of it writes and runs."""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest
import torch

from demo.inputs import write_inputs
from pusa_core import Keyframe, Settings, load_lora, load_model, load_text_encoder, load_vae, merge_lora
from pusa_core.weights.demo_files import DIT, LORA, MODELS
from tools.comfyui import PACK

pytest.importorskip("diffusers")


def frames_in(video: Path) -> int:
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_the_program_of_the_page_makes_a_video(tmp_path, monkeypatch):
    programs = re.findall(
        r"```python\n(.+?)```", (PACK / "docs" / "standalone.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (program,) = (text for text in programs if "load_model" in text)
    assert len(program.splitlines()) <= 15
    write_inputs(tmp_path, 3)
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "program.py"
    script.write_text(program, encoding="utf-8")
    runpy.run_path(str(script))
    (video,) = set(tmp_path.glob("*.mp4")) - {tmp_path / "clip.mp4"}
    assert frames_in(video) == 81


def test_loras_are_merged_in_turn():
    weights = load_model(DIT, [(LORA, 0.5), ("demo", -0.2)], device="cpu").state_dict()
    expected = load_model("demo", device="cpu")
    for strength in (0.5, -0.2):
        merge_lora(expected, load_lora(LORA), strength)
    assert all(torch.equal(weights[name], value) for name, value in expected.state_dict().items())


def test_a_model_is_loaded_in_the_wanted_dtype_and_ready_to_sample():
    model = load_model("demo", device="cpu", dtype=torch.bfloat16)
    assert not model.training
    assert {(value.dtype, value.requires_grad) for value in model.parameters()} == {(torch.bfloat16, False)}
    assert load_model("demo", device="cpu").head.modulation.dtype == torch.float32


def test_offloaded_weights_compute_the_same():
    inputs = torch.randn(1, 16, 3, 4, 4), torch.rand(1, 3) * 1000, load_text_encoder("demo")("a red square")
    with torch.inference_mode():
        assert torch.equal(*(load_model("demo", device="cpu", offload=offload)(*inputs) for offload in (False, True)))


@pytest.mark.parametrize("load", [load_model, load_vae, load_text_encoder])
def test_a_missing_file_is_named(load):
    with pytest.raises(FileNotFoundError, match=r"no such file: gone\.safetensors"):
        load("gone.safetensors")


def test_a_keyframe_covers_the_video(tmp_path):
    write_inputs(tmp_path, 3)
    keyframe = Keyframe.read(tmp_path / "clip.mp4", Settings(width=64, height=32), position=-1, noise_level=0.3)
    assert keyframe.frames.shape == (81, 32, 64, 3)
    assert (keyframe.position, keyframe.noise_level) == (-1, 0.3)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package as pip installs it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PACK / name, source)
    shutil.copytree(PACK / "pusa_core", source / "pusa_core", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(MODELS, source / "demo" / "models")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(source)]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return target


def generate(installed, folder, *arguments):
    command = [sys.executable, "-m", "pusa_core", "generate", "--prompt", "a small red square", "--out", "x.mp4"]
    environment = {"PYTHONPATH": str(installed), "PATH": ""}
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


def test_an_installed_package_has_its_code_and_the_demo_model(installed, tmp_path):
    stored = {path.relative_to(PACK) for path in (PACK / "pusa_core").rglob("*.py")}
    assert stored <= {path.relative_to(installed) for path in installed.rglob("*.py")}
    assert (installed / "pusa_core" / "py.typed").exists()
    done = generate(installed, tmp_path, "--frames", "9", "--steps", "1", "--device", "cpu")
    assert done.returncode == 0, done.stderr[-3000:]
    assert frames_in(tmp_path / "x.mp4") == 9


def test_without_the_demo_model_the_command_says_in_one_line_what_to_give(installed, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(installed, bare, ignore=shutil.ignore_patterns("demo_models"))
    done = generate(bare, tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.fullmatch(r"error: the demo model is not installed .*; give a checkpoint instead", done.stderr.strip())
