"""``python -m pusa_core generate``: what it makes and what it refuses."""

import re
import shlex

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from demo.clips import draw_scene
from demo.inputs import write_inputs
from pusa_core import Lora, LoraLayer, save_lora
from pusa_core.cli.main import build_parser, main
from pusa_core.media.vae import WanVae
from pusa_core.media.video import read_frames
from pusa_core.sampling import tasks
from pusa_core.sampling.pipeline import Keyframe, Settings, encode_keyframes
from pusa_core.sampling.tasks import TASKS
from pusa_core.weights.demo_files import VAE
from tests.conftest import GOLDENS
from tools.comfyui import PACK

pytest.importorskip("diffusers")


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "first.png"
    Image.fromarray((draw_scene(3).render([0])[0] * 255).astype(np.uint8)).save(path)
    return path


def generate(tmp_path, *arguments):
    main(["generate", "--prompt", "a small red square", "--out", str(tmp_path / "out.mp4"), *map(str, arguments)])


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
    assert Image.open(tmp_path / "out.sheet.png").size[0] > 500


def test_offloaded_weights_make_the_same_video(tmp_path, picture):
    sheets = []
    for extra in ([], ["--offload"]):
        generate(tmp_path, "--keyframe", f"0={picture}", "--steps", 1, "--frames", 9, "--overwrite", *extra)
        sheets.append(np.asarray(Image.open(tmp_path / "out.sheet.png")))
    assert np.array_equal(*sheets)


def test_frames_left_out_make_another_video_of_the_same_picture(tmp_path, picture):
    sheets = []
    for refresh in (1, 0):
        arguments = ["--steps", 3, "--frames", 9, "--overwrite", "--given-frames-refresh", refresh]
        generate(tmp_path, "--keyframe", f"0={picture}", *arguments)
        sheets.append(np.asarray(Image.open(tmp_path / "out.sheet.png")).astype(int))
    assert 0 < np.abs(sheets[0] - sheets[1]).mean() < 3


def test_a_clip_can_end_the_video(tmp_path, picture):
    generate(tmp_path, "--keyframe", f"0={picture}", "--steps", 1, "--cfg", 1, "--frames", 9)
    clip = tmp_path / "out.mp4"
    main(f"generate --prompt x --out {tmp_path}/two.mp4 --keyframe -1={clip}:0.3 --steps 1 --cfg 1 --frames 17".split())
    assert len(frames_of(tmp_path / "two.mp4")) == 17


@pytest.fixture(scope="module")
def readme():
    return (PACK / "docs" / "standalone.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def task_commands(readme):
    """The command of docs/standalone.md for each task, split as a shell would."""
    commands = map(shlex.split, re.findall(r"^python -m pusa_core (generate --task .+\w)$", readme, re.MULTILINE))
    return {command[2]: command for command in commands}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder, 3)
    return folder


def test_the_page_shows_wan22_in_4_steps(readme):
    commands = re.findall(r"^python -m pusa_core (generate .+)$", readme.replace("\\\n", ""), re.MULTILINE)
    (text,) = (command for command in commands if "--checkpoint-low" in command)
    args = build_parser().parse_args(shlex.split(text))
    assert (args.steps, args.cfg, args.task, args.noise_levels) == (4, 1, ["image_to_video", "start.png"], "0:0.2")
    assert [[strength for _, strength in loras] for loras in (args.lora, args.lora_low)] == [[1.5, 1], [1.4, 1]]
    assert all("high" in str(file) for file in (args.checkpoint, *(file for file, _ in args.lora)))
    assert all("low" in str(file) for file in (args.checkpoint_low, *(file for file, _ in args.lora_low)))


def test_the_page_shows_every_task(task_commands):
    assert list(task_commands) == list(TASKS)
    workflows = {path.stem for path in (PACK / "workflows" / "api").glob("*.json")}
    assert set(TASKS) <= workflows


@pytest.mark.parametrize("task", TASKS)
def test_the_commands_of_the_page_run(inputs, monkeypatch, task_commands, task):
    """As they are written, but in one step and without guidance."""
    assert task in task_commands, "docs/standalone.md has no command for this task"
    monkeypatch.chdir(inputs)
    arguments = task_commands[task]
    out = arguments[arguments.index("--out") + 1]
    main([*arguments, "--steps", "1", "--cfg", "1"])
    assert len(frames_of(inputs / out)) == 81
    assert (inputs / out).with_suffix(".sheet.png").exists()


class Identity:
    """In place of a VAE: a latent is the first pixel of the last pixel frame that it holds, 16 times."""

    def encode(self, frames):
        return frames[::4, :1, :1, :1].permute(3, 0, 1, 2)[None].expand(1, 16, -1, 2, 2)


@pytest.mark.parametrize(
    ("task", "files", "given", "levels"),
    [
        ("text_to_video", [], {}, {}),
        ("image_to_video", ["start"], {0: 0}, {}),
        ("start_end", ["start", "end"], {0: 0, 20: 80}, {}),
        ("start_end_noise", ["start", "end"], {0: 0, 20: 80}, {0: 0.3, 20: 0.7}),
        ("three_keyframes", ["start", "middle", "end"], {0: 0, 10: 40, 20: 80}, {}),
        ("completion", ["clip", "clip"], {0: 72, 1: 76, 2: 80, 18: 3, 19: 7, 20: 11}, {}),
        ("extension_13", ["clip"], {0: 68, 1: 72, 2: 76, 3: 80}, {}),
        ("extension_41", ["clip"], {frame: 40 + 4 * frame for frame in range(11)}, {}),
        ("video_to_video", ["clip"], {frame: 4 * frame for frame in range(21)}, {0: 0.3, 20: 0.3}),
        ("region", ["clip"], {frame: 4 * frame for frame in range(21)}, {}),
    ],
)
def test_a_task_places_the_right_frames(monkeypatch, task, files, given, levels):
    """``given``: by latent frame, the number of the user's pixel frame that it holds."""
    # every frame has its own colour
    clip = torch.arange(81.0).view(81, 1, 1, 1).expand(81, 16, 16, 3)
    pictures = {"clip": clip, "start": clip[:1], "middle": clip[40:41], "end": clip[80:]}

    def read(name, size, first=None, last=None):
        return pictures[name][-last:] if last else pictures[name][:first]

    monkeypatch.setattr(tasks, "read_frames", read)
    keyframes = [Keyframe(frames, place.position) for place, frames in tasks.read_task(task, *files)]
    result = encode_keyframes(Identity(), keyframes, Settings(16, 16), TASKS[task].noise_levels)
    expected = [given.get(frame, 0) for frame in range(21)]
    assert result.latents[0, 0, :, 0, 0].tolist() == expected
    generated = {frame: 1.0 for frame in range(21) if frame not in given or task == "video_to_video"}
    wanted = {**dict.fromkeys(given, 0.0), **generated, **levels}
    assert result.noise_levels.tolist() == pytest.approx([wanted[frame] for frame in range(21)])


def test_a_command_that_has_moved_says_where():
    with pytest.raises(SystemExit, match=r"^error: vbench is a benchmark now: python -m benchmarks\.vbench"):
        main(["vbench", "--list", "x"])


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
        (["--given-frames-refresh", "-1"], "given_frames_refresh is -1"),
        (["--keyframe", "0=gone.png"], "no such file: gone.png"),
        (["--keyframe", "99={picture}"], "position 99 does not exist"),
        (["--keyframe", "0={picture}", "--keyframe", "-21={picture}"], "given twice"),
        (["--checkpoint", "gone.safetensors"], "needs --vae"),
        (["--vae", "gone.safetensors"], r"no such file: gone\.safetensors"),
        (["--lora", "{text}"], "cannot be read as a weight file"),
        (["--lora", "{vae}"], "holds no LoRA"),
        (["--vae", "{dit}"], "not a Wan2.1 VAE"),
        (["--keyframe", "0={text}"], "cannot be read as a video"),
        (["--task", "image_to_image", "{picture}"], 'no task "image_to_image"; choose one of text_to_video, image_to'),
        (["--task", "start_end", "{picture}"], r"takes 2 files \(first frame, last frame\); 1 are given"),
        (["--task", "extension_13", "{picture}"], "takes 13 frames for frames to continue; .*first.png has 1"),
        (["--task", "start_end", "{picture}", "gone.png"], "no such file: gone.png"),
        (["--task", "image_to_video", "{picture}", "--noise-levels", "0=0.3"], "is not FRAME:LEVEL"),
        (
            ["--task", "image_to_video", "{picture}", "--noise-levels", "-1:0.3"],
            "frame 20 is set to 0.3, but no keyframe",
        ),
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
