"""``python -m pusa_core join``, ``retake`` and ``loop``: new frames between those of clips, which keep their own."""

import re
import shlex

import numpy as np
import pytest
import torch

from demo.clips import draw_scene
from demo.inputs import write_inputs
from pusa_core import parse_noise_levels
from pusa_core.cli import bridge
from pusa_core.cli.main import main
from pusa_core.media.video import read_frames, write_video
from pusa_core.sampling.bridge import Bridge
from tests.support.clips import sound_samples, write_clip
from tools.comfyui import PACK

pytest.importorskip("diffusers")

QUICK = ["--prompt", "a large red diamond", "--steps", "1", "--cfg", "1", "--frames", "33"]


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(torch.from_numpy(draw_scene(3).render(range(48))), path)
    return path


def run(*arguments):
    main([*map(str, arguments[:1]), *map(str, arguments[1:]), *QUICK])


def refused(*arguments):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert isinstance(caught.value.code, str) and "\n" not in caught.value.code
    return caught.value.code


def psnr(one, other):
    return -10 * torch.log10(((one - other) ** 2).mean()).item()


@pytest.mark.parametrize(
    ("new", "before", "after", "expected"),
    [
        (32, 81, 81, (7, 8, 6)),
        (56, 81, 81, (4, 14, 3)),
        (32, 9, 81, (3, 8, 10)),
        (32, 81, 9, (11, 8, 2)),
        (4, 12, 12, (3, 1, 3)),
    ],
)
def test_a_window_holds_the_gap_and_what_it_leaves_room_for(new, before, after, expected):
    room = Bridge.of(new, before, after, 21)
    assert (room.before, room.new, room.after) == expected
    assert room.frames_before <= before and room.frames_after <= after and room.latents <= 21
    levels = parse_noise_levels(room.noise_levels, room.latents)
    seam = [round(float(level), 3) for level in levels[room.before - 2 : room.before + room.new + 2]]
    assert seam == [0.1, 0.3] + [1.0] * room.new + [0.3, 0.1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((30, 81, 81), "30 new frames are asked for; latent frames hold 4: use 32"),
        ((0, 81, 81), "use 4"),
        ((72, 81, 81), "72 new frames leave no room for given ones in a window; 68 do"),
        ((32, 4, 81), "the first clip is too short"),
        ((32, 81, 7), "the second clip is too short to go on from; give one of at least 8 frames"),
    ],
)
def test_gaps_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Bridge.of(*arguments, 21)


def test_a_retake_changes_its_span_alone(tmp_path, clip):
    run("retake", clip, "--start", 1.25, "--end", 1.75, "--out", tmp_path / "out.mp4")
    made, own = read_frames(tmp_path / "out.mp4"), read_frames(clip)
    assert len(made) == len(own) == 48
    assert psnr(made[:20], own[:20]) > 40 and psnr(made[28:], own[28:]) > 40
    assert (made[20:28] - own[20:28]).abs().mean() > 0.01


def test_two_clips_are_joined_by_new_frames(tmp_path, clip):
    other = tmp_path / "other.mp4"
    write_video(torch.from_numpy(draw_scene(4).render(range(30))), other)
    run("join", clip, other, "--seconds", 0.5, "--out", tmp_path / "out.mp4")
    made = read_frames(tmp_path / "out.mp4")
    assert len(made) == 48 + 8 + 30
    assert psnr(made[:48], read_frames(clip)) > 40 and psnr(made[56:], read_frames(other)) > 40


def test_a_loop_ends_where_it_begins(tmp_path, clip, monkeypatch):
    """The window that is sampled begins with the clip's last frames and ends with its first."""
    given = {}

    def record(vae, keyframes, settings, levels):
        given.update({keyframe.position: keyframe.frames for keyframe in keyframes})
        return encode(vae, keyframes, settings, levels)

    encode = bridge.encode_keyframes
    monkeypatch.setattr(bridge, "encode_keyframes", record)
    run("loop", clip, "--seconds", 0.5, "--out", tmp_path / "out.mp4")
    made, own = read_frames(tmp_path / "out.mp4"), read_frames(clip)
    assert len(made) == 48 + 8 and psnr(made[:48], own) > 40
    assert torch.equal(given[0], own[-len(given[0]) :]) and torch.equal(given[-1], own[: len(given[-1])])


def test_sound_stays_where_it_was(tmp_path):
    source = write_clip(tmp_path / "clip.mp4", frames=40, seconds_of_sound=2.5)
    run("retake", source, "--start", 1, "--end", 1.5, "--out", tmp_path / "out.mp4")
    before, after = sound_samples(source).samples, sound_samples(tmp_path / "out.mp4").samples
    assert len(before) > 100_000 and np.array_equal(before, after[: len(before)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["retake", "{clip}", "--start", "2", "--end", "1"], "the span from 2 s to 1 s is not within"),
        (["retake", "{clip}", "--start", "0", "--end", "1"], "--start must be above 0"),
        (["retake", "{clip}", "--start", "1", "--end", "9"], "which has 3 s"),
        (["retake", "{clip}", "--start", "nan", "--end", "1"], "is not within"),
        (["loop", "{clip}", "--seconds", "0"], "--seconds is 0; give the length"),
        (["loop", "{clip}", "--seconds", "9"], "leave no room"),
        (["join", "{clip}", "gone.mp4"], "no such file: gone.mp4"),
        (["join", "{clip}", "{picture}", "--seconds", "1"], "the second clip is too short"),
    ],
)
def test_bad_input_is_refused_with_the_fix(tmp_path, clip, monkeypatch, arguments, message):
    monkeypatch.setattr(bridge, "load_vae", None)  # refused before the work
    write_inputs(tmp_path / "inputs", 3)
    files = {"clip": clip, "picture": tmp_path / "inputs" / "start.png"}
    assert message in refused(*(each.format(**files) for each in arguments), "--out", tmp_path / "out.mp4")


def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    page = (PACK / "docs" / "standalone.md").read_text(encoding="utf-8")
    lines = re.findall(r"^python -m pusa_core ((?:join|retake|loop) .+)$", page, re.MULTILINE)
    write_inputs(tmp_path, 776)
    monkeypatch.chdir(tmp_path)
    for line in lines:
        main([*shlex.split(line), "--steps", "1", "--cfg", "1"])
    lengths = [len(read_frames(f"{name}.mp4")) for name in ("joined", "spliced", "looped")]
    assert lengths == [81 + 32 + 81, 81, 81 + 32]
