"""What the commands write: never over an input, checked before the work, and kept where the end of it fails."""

import logging
import pickle
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from demo.inputs import write_inputs
from pusa_core.cli.main import main
from pusa_core.media.vae import WanVae
from pusa_core.media.video import read_frames
from pusa_core.sampling.keyframes import lead_in
from pusa_core.storage.atomic import SaveError
from pusa_core.storage.lock import hold_lock
from pusa_core.weights.demo_files import VAE
from tools.comfyui import PACK

pytest.importorskip("diffusers")

QUICK = ["--prompt", "a small red square", "--steps", "1", "--cfg", "1", "--frames", "5", "--size", "32x32"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(capsys, *arguments):
    """The one line of error with which a command ends."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert isinstance(caught.value.code, str) and caught.value.code.startswith("error: ")  # exit code 1
    assert "\n" not in caught.value.code and "Traceback" not in capsys.readouterr().err
    return caught.value.code


@pytest.fixture
def cat(tmp_path):
    path = tmp_path / "cat.png"
    Image.new("RGB", (32, 32), (90, 120, 150)).save(path)
    return path


@pytest.fixture
def unloaded(monkeypatch):
    """Nothing is loaded, encoded or sampled."""
    monkeypatch.setattr("pusa_core.cli.generate.encode_inputs", None)


def test_a_picture_of_the_videos_name_is_never_replaced(tmp_path, cat):
    before = cat.read_bytes()
    main(["generate", *QUICK, "--keyframe", f"0={cat}", "--out", str(tmp_path / "cat.mp4"), "--overwrite"])
    assert cat.read_bytes() == before
    assert names(tmp_path) == ["cat.mp4", "cat.png", "cat.sheet.png"]


@pytest.mark.parametrize("given", ["--keyframe 0={clip}", "--task video_to_video {clip}", "--vae {clip}"])
def test_an_output_that_is_an_input_is_refused(tmp_path, capsys, unloaded, given):
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "clip.mp4")
    given = given.format(clip=tmp_path / "clip.mp4").split()
    for out in ("clip.mp4", "link.mp4"):
        assert "is an input" in refused(capsys, "generate", *QUICK, *given, "--out", tmp_path / out, "--overwrite")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fps", "-5"], "--fps is -5; use 1 to"),
        (["--fps", "0"], "--fps is 0"),
        (["--out", "{folder}/x.avi"], "must end in .mp4"),
        (["--out", "{folder}"], "must end in .mp4"),
        (["--out", "{folder}/cat.png/x.mp4"], "is a file, not a folder"),
        (["--out", "{folder}/folder.mp4"], "is a folder"),
        (["--out", "{folder}/a\0b.mp4"], "cannot be the name of a file"),
        (["--out", "{folder}/con.mp4"], "device on Windows"),
        (["--device", "cuda:99"], 'the device "cuda:99" cannot be used here'),
        (["--device", "gpu"], 'the device "gpu" cannot be used here'),
    ],
)
def test_what_can_be_known_is_refused_before_the_work(tmp_path, cat, capsys, unloaded, arguments, message):
    (tmp_path / "folder.mp4").mkdir()
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    assert message in refused(capsys, "generate", *QUICK, "--out", tmp_path / "x.mp4", *arguments)
    assert names(tmp_path) == ["cat.png", "folder.mp4"]


def test_of_two_runs_with_one_output_the_second_is_refused(tmp_path, capsys, unloaded):
    with hold_lock(tmp_path / "x.mp4"):
        assert "is being written" in refused(capsys, "generate", *QUICK, "--out", tmp_path / "x.mp4")


def fail_decoding(self, latents):
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")


def fail_writing(*arguments, **options):
    raise SaveError("cannot write x.mp4 (No space left on device)")


@pytest.mark.parametrize("failing", ["decoding", "writing"])
def test_latents_are_kept_when_there_is_no_video_and_can_be_decoded(tmp_path, capsys, monkeypatch, failing):
    main(["generate", *QUICK, "--fps", "8", "--out", str(tmp_path / "straight.mp4")])
    with monkeypatch.context() as broken:
        if failing == "decoding":
            broken.setattr(WanVae, "decode", fail_decoding)
        else:
            broken.setattr("pusa_core.cli.output.write_video", fail_writing)
        text = refused(capsys, "generate", *QUICK, "--fps", "8", "--out", tmp_path / "x.mp4")
    kept = tmp_path / "x.latents.safetensors"
    assert f"python -m pusa_core decode {kept}" in text and not (tmp_path / "x.mp4").exists()
    assert "exists" in refused(capsys, "generate", *QUICK, "--out", tmp_path / "x.mp4")  # hours of work, perhaps
    main(["decode", str(kept), "--out", str(tmp_path / "x.mp4")])
    made, straight = (np.asarray(Image.open(tmp_path / f"{name}.sheet.png")) for name in ("x", "straight"))
    assert np.array_equal(made, straight)
    assert read_frames(tmp_path / "x.mp4").shape == (5, 32, 32, 3)
    assert {"x.mp4", "x.sheet.png", kept.name} <= set(names(tmp_path))


def test_latents_that_cannot_lie_beside_the_video_are_kept_elsewhere(tmp_path, capsys, monkeypatch):
    from pusa_core.cli import output

    def only_elsewhere(path, *arguments):
        if path.parent == tmp_path / "out":
            raise SaveError(f"cannot write {path}")
        write_whole(path, *arguments)

    write_whole = output.write_whole
    monkeypatch.setattr(output, "write_whole", only_elsewhere)
    monkeypatch.setattr(output.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(WanVae, "decode", fail_decoding)
    assert "its latents are kept" in refused(capsys, "generate", *QUICK, "--out", tmp_path / "out" / "x.mp4")
    (kept,) = tmp_path.glob("*.safetensors")
    assert load_file(kept)["latents"].shape == (1, 16, 2, 4, 4)


@pytest.mark.parametrize(
    ("tensors", "about", "message"),
    [
        ({"samples": torch.zeros(1, 16, 2, 4, 4)}, "{}", "holds no latents"),
        ({"latents": torch.zeros(1, 4, 2, 4, 4)}, "{}", "holds no latents"),
        ({"latents": torch.zeros(1, 16, 2, 4, 4)}, "[" * 3000 + "]" * 3000, "metadata cannot be read"),
        ({"latents": torch.zeros(1, 16, 2, 4, 4)}, '{"fps": "many"}', "give --fps"),
    ],
)
def test_other_files_are_not_decoded(tmp_path, capsys, tensors, about, message):
    save_file(tensors, tmp_path / "x.safetensors", {"pusa": about})
    assert message in refused(capsys, "decode", tmp_path / "x.safetensors", "--out", tmp_path / "x.mp4")


@pytest.mark.parametrize("lacking", ["decoder.head.2.weight", "decoder.middle.0.residual.2.weight", "conv2.weight"])
def test_a_vae_that_lacks_tensors_is_one_line_of_error(tmp_path, capsys, lacking):
    tensors = load_file(VAE)
    del tensors[lacking]
    save_file(tensors, tmp_path / "vae.safetensors")
    arguments = [*QUICK, "--vae", tmp_path / "vae.safetensors", "--out", tmp_path / "x.mp4"]
    assert "Wan2.1 VAE" in refused(capsys, "generate", *arguments)


def test_a_text_encoder_folder_with_pickled_code_is_refused(tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    from pusa_core.media.umt5 import Umt5Encoder

    marker, folder = tmp_path / "executed", tmp_path / "umt5"
    folder.mkdir()
    transformers.UMT5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2).save_pretrained(folder)

    class Code:
        def __reduce__(self):
            return open, (str(marker), "w")

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Code()))
    with pytest.raises(ValueError, match=r"holds no \.safetensors file"):
        Umt5Encoder(folder)
    assert not marker.exists()


def test_json_that_is_nested_too_deep_is_one_line_of_error(tmp_path):
    pytest.importorskip("transformers")
    from benchmarks.vbench.suite import read_list
    from pusa_core.media.umt5 import Umt5Encoder

    deep = "[" * 100_000 + "]" * 100_000
    (tmp_path / "list.json").write_text(deep)
    with pytest.raises(ValueError, match="not VBench's list"):
        read_list(tmp_path / "list.json")
    (tmp_path / "config.json").write_text(deep)
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="cannot be read as a umt5 text encoder") as caught:
        Umt5Encoder(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_error_of_a_library_is_one_line(tmp_path, capsys, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("a device\nis gone")

    monkeypatch.setattr("pusa_core.cli.generate.encode_inputs", fail)
    text = refused(capsys, "generate", *QUICK, "--out", tmp_path / "x.mp4")
    assert text == "error: RuntimeError: a device is gone" and not names(tmp_path)


@pytest.mark.parametrize(("frames", "said"), [(12, 13), (14, 17), (16, 17), (1, None), (13, None)])
def test_frames_that_are_repeated_to_fill_a_latent_frame_are_said(caplog, frames, said):
    with caplog.at_level(logging.WARNING):
        lead_in(torch.zeros(frames, 2, 2, 3), 0)
    assert [f"{said} frames fill them" in record.getMessage() for record in caplog.records] == [True] * (
        said is not None
    )


def test_a_picture_that_is_repeated_by_design_is_not_mentioned(caplog):
    lead_in(torch.zeros(1, 2, 2, 3), 5)
    assert not caplog.records


def test_a_keyframe_clip_longer_than_the_video_is_refused_by_its_name(tmp_path, capsys, unloaded):
    write_inputs(tmp_path, 3)
    given = ["--keyframe", f"0={tmp_path / 'clip.mp4'}"]
    assert "clip.mp4 is longer than the video, which has 5 frames" in refused(
        capsys, "generate", *QUICK, *given, "--out", tmp_path / "x.mp4"
    )


def test_the_demo_inputs_replace_no_file(tmp_path):
    (tmp_path / "clip.mp4").write_text("mine")
    command = [sys.executable, "-m", "demo.inputs", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=PACK, capture_output=True, text=True)
    assert done.returncode == 1 and "clip.mp4 exists; give another name, or --overwrite" in done.stderr
    assert names(tmp_path) == ["clip.mp4"] and (tmp_path / "clip.mp4").read_text() == "mine"


PAGE = (PACK / "docs" / "standalone.md").read_text(encoding="utf-8").replace("\\\n", "")
COMMANDS = [shlex.split(line) for line in re.findall(r"^(?:python|torchrun) .*--out .+$", PAGE, re.MULTILINE)]


def test_no_command_of_the_page_writes_what_another_reads():
    outs = {command[command.index("--out") + 1] for command in COMMANDS}
    for command in COMMANDS:
        command[command.index("--out") + 1] = ""
    files = {re.sub(r"^-?\d+=|:[\d.]+$", "", part) for command in COMMANDS for part in command}
    assert len(outs) == len(COMMANDS) and not outs & files


def test_git_shows_nothing_that_the_commands_of_the_page_write():
    outs = re.findall(r"--out ([\w./]+)", PAGE)
    sheets = [re.sub(r"\.mp4$", ".sheet.png", out) for out in outs]
    written = [*outs, *sheets, "long.scenes/scenes.json", "start.png", "clip.mp4", "drift.csv"]
    command = ["git", "check-ignore", "--no-index", *written]
    done = subprocess.run(command, cwd=PACK, capture_output=True, text=True)
    if done.returncode == 128:
        pytest.skip("not a git checkout")
    assert set(done.stdout.split()) == set(written)


LOADED = "import torch; {}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"


def test_help_loads_little_beside_torch():
    """Counted in packages, not in seconds: a test that a busy machine cannot fail."""

    def loaded(program: str) -> set[str]:
        command = [sys.executable, "-c", LOADED.format(program)]
        return set(subprocess.check_output(command, cwd=PACK, text=True).split())

    shown = "import pusa_core.cli.main as cli; cli.build_parser().format_help()"
    packages = loaded(shown) - loaded("pass") - sys.stdlib_module_names
    assert packages == {"PIL", "einops", "pusa_core", "safetensors"}
