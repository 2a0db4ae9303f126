"""Pictures and clips are read as players show them, frame by frame, and what is no picture or clip is refused."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from pusa_core.media.video import frame_size, read_frames, write_video
from tests.support.training_videos import grey_frames, write_clip
from tools.comfyui import PACK

DATA = PACK / "tests" / "data"
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters(frames: torch.Tensor) -> list[tuple[int, ...]]:
    """The colours of the quarters: top left, top right, bottom left, bottom right."""
    picture = (frames[0] * 255).round().int()
    height, width, _ = picture.shape
    places = [(y, x) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [tuple(picture[place].tolist()) for place in places]


def near(found: list[tuple[int, ...]], expected: list[tuple[int, int, int]], most: int = 3) -> bool:
    return bool((np.abs(np.array(found) - np.array(expected)) <= most).all())


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("bt709.mp4", [(253, 0, 0), (0, 253, 0), (0, 0, 253), WHITE]),
        ("hflip.mp4", [GREEN, RED, WHITE, BLUE]),
        ("vflip.mp4", [BLUE, WHITE, RED, GREEN]),
        ("anamorphic.mp4", [RED, GREEN, BLUE, WHITE]),
        ("cover_first.mkv", [RED, GREEN, BLUE, WHITE]),
        ("quarters.ts", [RED, GREEN, BLUE, WHITE]),
        ("quarters.wmv", [RED, GREEN, BLUE, WHITE]),
    ],
)
def test_a_clip_is_read_as_players_show_it(file, expected):
    frames = read_frames(DATA / file)
    assert frames.shape == (24, 64, 96, 3) and frame_size(DATA / file) == (96, 64)
    assert near(quarters(frames), expected)


def coloured_clip(path: Path, pixels: str, matrix: int, colour_range: int) -> Path:
    """A clip of one colour, luma 120, blue-difference 90, red-difference 160, that says of itself what is given."""
    values = [np.full((32, 32), value, np.uint8) for value in (120, 90, 160)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=16)
        stream.height, stream.width, stream.pix_fmt, stream.options = 32, 32, pixels, {"crf": "1"}
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, colour_range
        frame = av.VideoFrame.from_ndarray(np.stack(values), format="yuv444p")
        frame.colorspace, frame.color_range = matrix, colour_range
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("matrix", "red", "blue"),
    [(1, 0.2126, 0.0722), (4, 0.30, 0.11), (6, 0.299, 0.114), (7, 0.212, 0.087), (9, 0.2627, 0.0593)],
)
@pytest.mark.parametrize("colour_range", [1, 2])
def test_matrix_and_range_are_those_that_the_file_names(tmp_path, matrix, red, blue, colour_range):
    clip = coloured_clip(tmp_path / "clip.mp4", "yuv444p", matrix, colour_range)
    offset, light, colour = (16, 219, 224) if colour_range == 1 else (0, 255, 255)
    y, u, v = (120 - offset) / light, (90 - 128) / colour, (160 - 128) / colour
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    expected = torch.tensor([r, (y - red * r - blue * b) / (1 - red - blue), b])
    assert (read_frames(clip)[0, 16, 16] - expected).abs().max() < 3 / 255


def test_of_several_tracks_the_default_one_is_read(tmp_path):
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        streams = [container.add_stream("ffv1", rate=16) for _ in range(2)]
        for stream in streams:
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv444p"
        streams[0].disposition, streams[1].disposition = 0, 1
        for stream, colour in zip(streams, (RED, GREEN), strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), colour, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 0, Fraction(1, 16)
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    assert near(quarters(read_frames(tmp_path / "clip.mkv"))[:1], [GREEN])


def mid_grey(mode: str) -> Image.Image:
    if mode.startswith("I;16"):
        dtype = ">u2" if mode == "I;16B" else "<u2"
        return Image.frombytes(mode, (16, 16), np.full((16, 16), 32768, dtype).tobytes())
    if mode == "I":
        return Image.fromarray(np.full((16, 16), 32768, np.int32))
    if mode == "F":
        return Image.fromarray(np.full((16, 16), 0.5, np.float32))
    picture = Image.new("RGB", (16, 16), (128, 128, 128))
    if mode == "CMYK":
        return picture.convert("CMYK")
    return picture.convert("L").convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *[("I;16", suffix) for suffix in ("png", "tif")],
        *[(mode, "tif") for mode in ("I;16B", "I", "F", "CMYK", "LA", "L", "RGBA", "P")],
        *[(mode, "png") for mode in ("LA", "L", "P", "RGB", "RGBA")],
        *[("CMYK", "jpg"), ("L", "jpg"), ("RGB", "webp"), ("RGB", "bmp")],
    ],
)
def test_mid_grey_is_read_as_one_half_in_every_mode(tmp_path, mode, suffix):
    path = tmp_path / f"grey.{suffix}"
    mid_grey(mode).save(path)
    frames = read_frames(path)
    assert frames.shape == (1, 16, 16, 3)
    assert (frames - 0.5).abs().max() < 0.01


def test_a_palette_with_transparency_keeps_its_colours(tmp_path):
    picture = Image.new("RGBA", (16, 16), (255, 0, 0, 255)).quantize(4)
    picture.save(tmp_path / "palette.png", transparency=1)
    assert near(quarters(read_frames(tmp_path / "palette.png")), [RED] * 4)


def test_a_picture_is_read_upright(tmp_path):
    halves = Image.fromarray(np.array([[RED] * 8 + [BLUE] * 8] * 8, np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise
    halves.save(tmp_path / "turned.png", exif=exif)
    assert frame_size(tmp_path / "turned.png") == (8, 16)
    assert near(quarters(read_frames(tmp_path / "turned.png")), [RED, RED, BLUE, BLUE])


@pytest.mark.parametrize("suffix", ["webp", "gif", "png"])
def test_an_animation_is_a_clip(tmp_path, suffix):
    pictures = [Image.new("RGB", (32, 32), colour) for colour in (RED, GREEN, BLUE)]
    pictures[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pictures[1:], duration=100, lossless=True)
    frames = read_frames(tmp_path / f"a.{suffix}")
    assert near([quarters(frame[None])[0] for frame in frames], [RED, GREEN, BLUE])


def test_the_first_or_last_frames_alone_are_read_and_resized(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", grey_frames(12))
    shown = [(read_frames(path, (16, 8), **part) * 255 / 8).mean((1, 2, 3)) for part in ({"first": 3}, {"last": 2})]
    assert [part.round().tolist() for part in shown] == [[0, 1, 2], [10, 11]]
    assert read_frames(path, (16, 8), last=20).shape == (12, 8, 16, 3)


MEASURE = """
import sys
import av
from benchmarks.memory import MB, resident
from pusa_core.media.video import read_frames

before = resident("VmHWM")
assert read_frames(sys.argv[1], (64, 64), last=13).shape[1:] == (64, 64, 3)
print((resident("VmHWM") - before) // MB)
"""
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")


def peak_memory(path: Path) -> int:
    """MB that reading a file takes at most, in a process of its own."""
    command = [sys.executable, "-c", MEASURE, str(path)]
    return int(subprocess.run(command, cwd=PACK, capture_output=True, text=True, check=True).stdout)


@on_linux
def test_a_long_large_clip_takes_little_memory(tmp_path):
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=30)
        stream.height, stream.width, stream.pix_fmt = 720, 1280, "yuv420p"
        stream.options = {"preset": "ultrafast", "tune": "zerolatency"}
        frame = av.VideoFrame(1280, 720, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for number in range(300):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert 0 < peak_memory(path) < 120


@on_linux
def test_a_picture_of_81_million_pixels_takes_twice_its_bytes(tmp_path):
    Image.new("RGB", (9000, 9000), RED).save(tmp_path / "large.png")
    assert 0 < peak_memory(tmp_path / "large.png") < 2 * 243


def test_a_picture_bomb_is_one_line_of_error(tmp_path):
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    for read in (read_frames, frame_size):
        with pytest.raises(ValueError, match=r"bomb\.png cannot be read as a picture") as caught:
            read(tmp_path / "bomb.png")
        assert "\n" not in str(caught.value)


def test_a_picture_never_starts_another_program(tmp_path, monkeypatch):
    marker = tmp_path / "started"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "cat.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match=r"cat\.png cannot be read as a picture"):
        read_frames(tmp_path / "cat.png")
    assert not marker.exists()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_clip_that_names_other_files_is_refused(tmp_path, suffix):
    write_video(torch.rand(2, 32, 32, 3), tmp_path / "private.mp4")
    (tmp_path / f"clip.{suffix}").write_text("ffconcat version 1.0\nfile private.mp4\n")
    with pytest.raises(ValueError, match="cannot be read as a video"):
        read_frames(tmp_path / f"clip.{suffix}")
