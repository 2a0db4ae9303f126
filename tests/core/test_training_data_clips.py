"""Finding the clips of a training folder and reading their frames."""

import csv
import json
import struct

import numpy as np
import pytest
import torch

from pusa_core.media.video import frame_size, read_frames
from pusa_core.training.clips import find_clips, nearest_size
from pusa_core.training.excerpts import Excerpt, read_excerpts
from tests.support.training_videos import BLUE, GREEN, RED, grey_frames, picture, write_clip
from tools.comfyui import PACK

EVERYTHING = slice(None)


@pytest.fixture
def skipped():
    """What was skipped, as ``{file: reason}``; ``skipped.add`` reports to it."""

    class Skipped(dict):
        add = dict.__setitem__

    return Skipped()


def read_clip(path, size, frames, fps):
    """The first frames of a clip."""
    return next(read_excerpts(path, size, [Excerpt(0, frames, fps)]))


def numbers(frames, step=8):
    """Which frames of ``grey_frames`` these are."""
    return [round(frame.mean().item() * 255 / step) for frame in frames]


def near(pixels, colour):
    return np.abs(np.asarray(pixels) * 255 - np.array(colour)).max() < 12  # H.264 keeps colours nearly


def test_a_folder_of_videos_with_texts_beside_them(tmp_path, skipped):
    for name in ("b.mp4", "a.MKV", "c.webm"):
        (tmp_path / name).touch()
    (tmp_path / "a.txt").write_bytes("\ufeffa cat,\r\n  asleep ".encode())
    (tmp_path / "b.txt").write_text("ein Mädchen", encoding="utf-8")
    (tmp_path / "c.txt").write_text(" \n")
    (tmp_path / "notes.txt").write_text("no video of this name")
    (tmp_path / "folder.mp4").mkdir()
    clips = find_clips(tmp_path, skipped.add)
    assert [(clip.path.name, clip.caption) for clip in clips] == [("a.MKV", "a cat, asleep"), ("b.mp4", "ein Mädchen")]
    assert "write one into c.txt" in skipped.pop("c.webm")
    assert list(skipped) == ["folder.mp4"]


def test_each_file_that_is_not_used_is_reported(tmp_path, skipped):
    for name in ("still.png", "notes.md", "song.mp3", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    for name in ("clip.ts", "clip2.wmv", "clip3.mpg", "clip4.webp"):
        (tmp_path / name).touch()
        (tmp_path / name).with_suffix(".txt").write_text("a cat")
    assert [clip.path.name for clip in find_clips(tmp_path, skipped.add)] == sorted(
        ["clip.ts", "clip2.wmv", "clip3.mpg", "clip4.webp"]
    )
    assert skipped.pop("more").startswith("a folder") and "no caption" in skipped.pop("still.png")
    assert set(skipped) == {"notes.md", "song.mp3"} and set(skipped.values()) == {"neither a video nor a picture"}


@pytest.mark.parametrize("file", ["bt709.mp4", "hflip.mp4", "anamorphic.mp4", "cover_first.mkv", "quarters.ts"])
def test_a_clip_is_trained_on_as_players_show_it(file):
    path = PACK / "tests" / "data" / file
    clip = read_clip(path, (96, 64), 9, 16)
    assert torch.equal(clip, read_frames(path, first=9))


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["file_name", "text"])
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path, rows):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n", encoding="utf-8")


@pytest.mark.parametrize("name, write", [("metadata.csv", write_csv), ("metadata.jsonl", write_jsonl)])
def test_metadata_lists_the_clips_also_those_in_the_folder_train(tmp_path, skipped, name, write):
    (tmp_path / "train").mkdir()
    for file in ("a.mp4", "unlisted.mp4", "train/b.mp4", "train/mute.mp4"):
        (tmp_path / file).touch()
    rows = [
        {"file_name": "b.mp4", "text": 'a "big" dog, ünd\u2028more'},
        {"file_name": "a.mp4", "text": "one\nline"},
        {"file_name": "gone.mp4", "text": "something"},
        {"file_name": "mute.mp4", "text": ""},
    ]
    write(tmp_path / name, rows)
    clips = find_clips(tmp_path, skipped.add)
    found = {clip.path.relative_to(tmp_path).as_posix(): clip.caption for clip in clips}
    assert found == {"a.mp4": "one line", "train/b.mp4": 'a "big" dog, ünd more'}
    assert "no such file" in skipped.pop("gone.mp4") and "no caption" in skipped.pop("mute.mp4") and not skipped


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("metadata.csv", b"file;text\na.mp4;dog\n", "a row needs file_name and text"),
        ("metadata.csv", b"file_name,text\na.mp4,M\xe4dchen\n", "save it as UTF-8"),
        ("metadata.jsonl", b'{"file_name": "a.mp4", "text": "dog"}\n{"file_name": "b.mp4"', "line 2"),
        ("metadata.jsonl", b"[1, 2]\n", "line 1"),
        ("metadata.jsonl", b'{"text": "dog"}\n', "a row needs file_name and text"),
    ],
)
def test_metadata_that_cannot_be_read_is_named_with_the_fix(tmp_path, skipped, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        find_clips(tmp_path, skipped.add)


def test_the_first_frames_are_read_in_order(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", grey_frames(12))
    frames = read_clip(path, (32, 32), 9, 0)
    assert frames.shape == (9, 32, 32, 3) and frames.min() >= 0 and frames.max() <= 1
    assert numbers(frames) == list(range(9))


@pytest.mark.parametrize("size", [(64, 32), (32, 64)])
def test_a_wide_or_tall_video_keeps_its_middle(tmp_path, size):
    width, height = size
    middle = (slice(height // 2 - 16, height // 2 + 16), slice(width // 2 - 16, width // 2 + 16))
    frame = picture(width, height, (EVERYTHING, EVERYTHING, RED), (*middle, GREEN))
    path = write_clip(tmp_path / "clip.mp4", [frame])
    assert frame_size(path) == size
    assert near(read_clip(path, (32, 32), 1, 0), GREEN)


def test_a_large_video_is_scaled_down(tmp_path):
    halves = picture(128, 96, (EVERYTHING, slice(64), RED), (EVERYTHING, slice(64, None), BLUE))
    frame = read_clip(write_clip(tmp_path / "clip.mp4", [halves]), (64, 48), 1, 0)[0]
    assert frame.shape == (48, 64, 3)
    assert near(frame[:, :28], RED) and near(frame[:, 36:], BLUE)


def turn_clockwise(path):
    """Have an MP4 say that it is to be shown a quarter turn clockwise, as phones do for upright videos."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def test_a_video_of_an_upright_phone_is_read_upright(tmp_path):
    halves = picture(64, 32, (EVERYTHING, slice(32), RED), (EVERYTHING, slice(32, None), BLUE))
    path = write_clip(tmp_path / "clip.mp4", [halves])
    turn_clockwise(path)
    assert frame_size(path) == (32, 64)
    frame = read_clip(path, (32, 64), 1, 0)[0]  # what was on the left is now at the top
    assert near(frame[:30], RED) and near(frame[34:], BLUE)


@pytest.mark.parametrize(
    "shape, nearest",
    [((1920, 1080), (832, 480)), ((1080, 1920), (480, 832)), ((700, 700), (640, 640)), ((4000, 100), (832, 480))],
)
def test_the_bucket_of_the_nearest_shape_is_taken(shape, nearest):
    assert nearest_size(shape, ((832, 480), (480, 832), (640, 640))) == nearest


@pytest.mark.parametrize("container", ["mp4", "mkv"])  # Matroska rounds times to milliseconds
@pytest.mark.parametrize(
    "source, wanted, expected",
    [
        (24, 24, list(range(9))),
        (30, 15, [1, 3, 5, 7, 9]),
        (24, 16, [0, 2, 3, 5, 6, 8]),  # 1.5 frames each
        (8, 16, [0, 0, 1, 1, 2, 2, 3, 3]),
    ],
)
def test_frames_are_those_on_screen_at_the_rate_asked_for(tmp_path, container, source, wanted, expected):
    path = write_clip(tmp_path / f"clip.{container}", grey_frames(10), source)
    assert numbers(read_clip(path, (32, 32), len(expected), wanted)) == expected


def test_no_frame_is_made_up_after_the_end(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", grey_frames(30, step=4), 30)  # one second
    assert numbers(read_clip(path, (32, 32), 1, 1), step=4) == [15]
    with pytest.raises(ValueError, match="too short: 1 frames at 1 frames per second, 5 are needed"):
        read_clip(path, (32, 32), 5, 1)


def test_a_short_clip_is_refused_with_both_lengths(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", grey_frames(8))
    with pytest.raises(ValueError, match="too short: 8 frames, 9 are needed"):
        read_clip(path, (32, 32), 9, 0)


def test_what_is_no_video_is_refused(tmp_path):
    whole = write_clip(tmp_path / "whole.mp4", grey_frames(9)).read_bytes()
    for content in (b"", b"no video at all" * 100, whole[: len(whole) // 2]):
        path = tmp_path / "clip.mp4"
        path.write_bytes(content)
        for read in (frame_size, lambda path: read_clip(path, (32, 32), 5, 0)):
            with pytest.raises(ValueError, match=r"cannot be read as a video|too short|holds no frame"):
                read(path)
