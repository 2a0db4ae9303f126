"""``python -m pusa_core generate``: what it makes and what it refuses."""

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from demo.clips import draw_scene
from demo.paths import VAE
from pusa_core import Lora, LoraLayer, save_lora
from pusa_core.cli import main
from pusa_core.media import read_frames
from pusa_core.vae import WanVae
from tests.conftest import GOLDENS

pytest.importorskip("diffusers")


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "first.png"
    Image.fromarray((draw_scene(3).render([0])[0] * 255).astype(np.uint8)).save(path)
    return path


def generate(tmp_path, *arguments):
    main(["generate", "--prompt", "a small red circle", "--out", str(tmp_path / "out.mp4"), *map(str, arguments)])


def frames_of(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_image_to_video_writes_a_video_that_starts_with_the_image(tmp_path, picture):
    generate(tmp_path, "--keyframe", f"0={picture}", "--steps", 2, "--cfg", 1, "--frames", 9)
    frames = frames_of(tmp_path / "out.mp4")
    assert len(frames) == 9 and frames[0].shape == (64, 64, 3)
    vae = WanVae(VAE)
    first = vae.decode(vae.encode(read_frames(picture)))[0].numpy() * 255  # what the VAE makes of the picture
    assert np.abs(frames[0] - first).mean() < 4  # only the video codec lies between
    assert Image.open(tmp_path / "out.png").size[0] > 500


def test_a_clip_can_end_the_video(tmp_path, picture):
    generate(tmp_path, "--keyframe", f"0={picture}", "--steps", 1, "--cfg", 1, "--frames", 9)
    clip = tmp_path / "out.mp4"
    main(f"generate --prompt x --out {tmp_path}/two.mp4 --keyframe -1={clip}:0.3 --steps 1 --cfg 1 --frames 17".split())
    assert len(frames_of(tmp_path / "two.mp4")) == 17


def test_an_existing_file_is_never_overwritten_silently(tmp_path):
    (tmp_path / "out.mp4").write_text("mine")
    with pytest.raises(SystemExit, match=r"out\.mp4 exists"):
        generate(tmp_path)
    assert (tmp_path / "out.mp4").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "80"], "80 frames: a Wan video has 4 n \\+ 1 frames; use 81"),
        (["--size", "100x64"], "divisible by 16; resize to 96 x 64"),
        (["--steps", "0"], "steps is 0"),
        (["--keyframe", "0=gone.png"], "no such file: gone.png"),
        (["--keyframe", "99={picture}"], "position 99 does not exist"),
        (["--keyframe", "0={picture}", "--keyframe", "-21={picture}"], "given twice"),
        (["--checkpoint", "gone.safetensors"], "needs --vae"),
        (["--vae", "gone.safetensors"], r"no such file: gone\.safetensors"),
        (["--lora", "{text}"], "cannot be read as a weight file"),
        (["--lora", "{vae}"], "holds no LoRA"),
        (["--vae", "{dit}"], "not a Wan2.1 VAE"),
        (["--keyframe", "0={text}"], "cannot be read as a video"),
    ],
)
def test_bad_input_is_refused_with_the_fix(tmp_path, picture, arguments, message):
    (tmp_path / "text.safetensors").write_text("hello")
    files = {"picture": picture, "text": tmp_path / "text.safetensors", "dit": GOLDENS / "dit_tiny.safetensors"}
    files["vae"] = GOLDENS / "traj_inputs.safetensors"
    with pytest.raises(SystemExit, match=message):
        generate(tmp_path, *(argument.format(**files) for argument in arguments))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_embedding.weight": torch.zeros(96, 36, 1, 2, 2)}, "image-to-video model"),
        ({"vace_patch_embedding.weight": torch.zeros(1)}, "VACE"),
        ({"head.modulation": None}, "not a Wan video model"),
    ],
)
def test_other_checkpoints_are_refused_before_anything_else_is_loaded(tmp_path, golden, change, message):
    weights = {name: value for name, value in (golden("dit_tiny") | change).items() if value is not None}
    save_file(weights, tmp_path / "dit.safetensors")
    files = {"--checkpoint": tmp_path / "dit.safetensors", "--vae": tmp_path, "--text-encoder": tmp_path}
    with pytest.raises(SystemExit, match=message):
        generate(tmp_path, *(part for pair in files.items() for part in pair))


def test_a_lora_for_another_size_is_refused(tmp_path):
    layer = LoraLayer(torch.zeros(2, 64), torch.zeros(64, 2))
    save_lora(Lora({"blocks.0.self_attn.q": layer}), tmp_path / "lora.safetensors")
    with pytest.raises(SystemExit, match="another size"):
        generate(tmp_path, "--lora", tmp_path / "lora.safetensors")


@pytest.mark.parametrize("argument", ["0", "x=first.png", "0=first.png:1.5"])
def test_a_malformed_keyframe_is_refused(tmp_path, argument, capsys):
    with pytest.raises(SystemExit):
        generate(tmp_path, "--keyframe", argument)
    assert "--keyframe" in capsys.readouterr().err
