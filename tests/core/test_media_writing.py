"""Videos are written whole, and say which colours they have."""

import av
import numpy as np
import pytest
import torch

from pusa_core.media.video import read_frames, write_video
from pusa_core.storage.atomic import SaveError

COLOURS = torch.tensor([[[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 1, 1]]]).float()


def quarters(height: int, width: int, frames: int = 3) -> torch.Tensor:
    """Frames with a pure colour in each quarter."""
    picture = COLOURS.repeat_interleave(height // 2, 0).repeat_interleave(width // 2, 1)
    return picture.expand(frames, -1, -1, -1)


@pytest.mark.parametrize(("height", "width", "matrix"), [(64, 96, 6), (718, 1280, 6), (720, 1280, 1)])
def test_a_video_names_its_colours_and_has_them(tmp_path, height, width, matrix):
    frames, path = quarters(height, width), tmp_path / "video.mp4"
    write_video(frames, path)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        named = context.colorspace, context.color_range, context.color_primaries, context.color_trc
        stored = next(container.decode(video=0)).to_ndarray(format="yuv420p")
    assert named == (matrix, 1, 1, 1)
    luma_of_red = stored[height // 4, width // 4]
    assert abs(int(luma_of_red) - (16 + 219 * (0.2126 if matrix == 1 else 0.299))) <= 2
    places = slice(height // 4, None, height // 2), slice(width // 4, None, width // 2)
    assert (read_frames(path)[:, places[0], places[1]] - frames[:, places[0], places[1]]).abs().max() <= 3 / 255


def test_the_same_frames_make_the_same_file(tmp_path):
    """x264 writes its options into the file; with its macroblock tree, one file in some twenty was another."""
    path = tmp_path / "video.mp4"
    frames = torch.rand(9, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    made = set()
    for _ in range(3):
        write_video(frames, path)
        read_frames(path)
        made.add(path.read_bytes())
    assert len(made) == 1 and b"mbtree=0" in made.pop()


def test_a_video_has_its_rate_and_length(tmp_path):
    write_video(quarters(32, 32, 12), tmp_path / "video.mp4", fps=24)
    with av.open(str(tmp_path / "video.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert np.allclose(times, np.arange(12) / 24, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "fps", "message"),
    [
        ((3, 32, 32, 3), 0, "fps is 0; use 1 to"),
        ((3, 32, 32, 3), -5, "fps is -5"),
        ((3, 31, 32, 3), 16, "both sides must be even"),
        ((0, 32, 32, 3), 16, "T > 0"),
        ((3, 32, 32), 16, r"\[T, H, W, 3\]"),
    ],
)
def test_what_makes_no_video_is_refused_before_a_file_is_made(tmp_path, shape, fps, message):
    with pytest.raises(ValueError, match=message):
        write_video(torch.zeros(shape), tmp_path / "video.mp4", fps)
    assert not list(tmp_path.iterdir())


def test_a_video_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "video.mp4").write_text("old")

    def full(self, *packets):
        raise av.FFmpegError(28, "No space left on device")

    monkeypatch.setattr("pusa_core.media.colours.ToYuv.__call__", full)
    with pytest.raises(SaveError, match=r"video\.mp4 \(No space left on device\)"):
        write_video(quarters(32, 32), tmp_path / "video.mp4")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
