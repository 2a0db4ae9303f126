"""Clips at the model's rate, by their timestamps, and their sound in the video that begins with them."""

import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks.memory import reset_peak, resident
from pusa_core.media.clip import Clip, resampled
from pusa_core.media.video import write_pictures
from tests.support.clips import SILENCE, brightness, sound_samples, write_clip


def shown(path, fps=16):
    """The number of the source frame that each frame shows: the clip's frames are told apart by their brightness."""
    return [round(brightness(frame.pixels()) / 4) for frame in resampled(path, fps)]


@pytest.mark.parametrize(
    ("rate", "frames", "expected"),
    [
        (16, 5, [0, 1, 2, 3, 4]),
        (8, 3, [0, 0, 1, 1, 2, 2]),
        (24, 9, [0, 2, 3, 5, 6, 8]),
        (32, 8, [1, 3, 5, 7]),
        (12, 6, [0, 1, 1, 2, 3, 4, 4, 5]),
        (60, 30, [1, 5, 9, 13, 16, 20, 24, 28]),
    ],
)
def test_a_clip_of_any_rate_keeps_its_speed(tmp_path, rate, frames, expected):
    path = write_clip(tmp_path / "clip.mp4", rate=rate, frames=frames)
    assert shown(path) == expected
    assert len(expected) / 16 == pytest.approx(frames / rate, abs=0.5 / 16)


def test_a_clip_of_a_varying_rate_is_shown_by_its_timestamps(tmp_path):
    path = write_clip(tmp_path / "clip.mkv", times=[0.0, 0.063, 0.125, 0.5, 0.563])
    assert shown(path) == [0, 1, 2, 2, 2, 2, 2, 2, 3, 4]


def test_timestamps_that_are_rounded_leave_no_frame_out(tmp_path):
    times = [round(number / 16, 3) for number in range(40)]  # milliseconds, as Matroska has them
    assert shown(write_clip(tmp_path / "clip.mkv", times=times)) == list(range(40))


def test_a_clip_that_begins_late_is_shown_from_its_first_frame(tmp_path):
    assert shown(write_clip(tmp_path / "clip.mkv", times=[3.0, 3.125, 3.25])) == [0, 0, 1, 1, 2, 2]


def test_a_picture_is_one_frame(tmp_path):
    Image.new("RGB", (48, 32), (80, 80, 80)).save(tmp_path / "cat.png")
    clip = Clip.open(tmp_path / "cat.png", 16)
    assert (clip.frames, clip.size) == (1, (48, 32))
    assert clip.last(1, (48, 32)).shape == (1, 32, 48, 3)


def test_a_clip_of_an_odd_size_is_cut_and_not_scaled(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (37, 53, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    clip = Clip.open(tmp_path / "noise.png", 16)
    assert np.array_equal(clip.last(1, (48, 32))[0], noise[2:34, 2:50])
    assert clip.last(1, (96, 64)).shape == (1, 64, 96, 3)  # asked for, so scaled


def test_files_without_pictures_are_named(tmp_path):
    write_clip(tmp_path / "sound.mp4", frames=0, seconds_of_sound=1.0)
    with pytest.raises(ValueError, match=r"sound\.mp4 cannot be read as a video \(it holds no video\)"):
        Clip.open(tmp_path / "sound.mp4", 16)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match=r"empty\.mp4 cannot be read"):
        Clip.open(tmp_path / "empty.mp4", 16)
    with pytest.raises(FileNotFoundError, match="no such file"):
        Clip.open(tmp_path / "gone.mp4", 16)


def test_a_clip_of_days_is_refused(tmp_path):
    path = write_clip(tmp_path / "clip.mkv", times=[0.0, 0.1, 200_000.0])
    with pytest.raises(ValueError, match="after 200000 s; its timestamps are wrong"):
        Clip.open(path, 16)


# sound


@pytest.mark.parametrize(("name", "codec"), [("clip.mp4", "aac"), ("clip.mkv", "mp3"), ("clip.mkv", "opus")])
def test_sound_is_copied_as_it_is(tmp_path, name, codec):
    encoder = {"mp3": "libmp3lame", "opus": "libopus"}.get(codec, codec)
    source = write_clip(tmp_path / name, frames=16, seconds_of_sound=1.0, codec=encoder)
    extend(tmp_path, source, frames=32)
    before, after = sound_samples(source), sound_samples(tmp_path / "out.mp4")
    assert after.codec == before.codec
    assert after.start == pytest.approx(before.start, abs=1e-3)
    length = round(0.9 * before.rate)
    same = [np.array_equal(before.samples[:length], after.samples[late:][:length]) for late in range(2)]
    assert any(same)  # Matroska's times are whole milliseconds: an MP3 from there is a sample late


def test_sound_that_an_mp4_cannot_hold_is_encoded(tmp_path):
    source = write_clip(tmp_path / "clip.mkv", frames=16, seconds_of_sound=1.0, codec="pcm_s16le")
    extend(tmp_path, source, frames=32)
    before, after = sound_samples(source), sound_samples(tmp_path / "out.mp4")
    assert after.codec == "aac" and after.rate == before.rate
    length = min(len(before.samples), len(after.samples))
    assert length > 0.9 * before.rate
    assert np.corrcoef(before.samples[:length], after.samples[:length])[0, 1] > 0.99  # also in time


def test_sound_longer_than_the_video_is_cut_and_a_silent_clip_stays_silent(tmp_path):
    source = write_clip(tmp_path / "clip.mp4", frames=8, seconds_of_sound=3.0)
    extend(tmp_path, source, frames=16)
    found = sound_samples(tmp_path / "out.mp4")
    assert len(found.samples) / found.rate == pytest.approx(1.0, abs=0.1)
    extend(tmp_path, write_clip(tmp_path / "silent.mp4", frames=8), frames=16)
    assert sound_samples(tmp_path / "out.mp4") == SILENCE


def test_sound_keeps_its_time_where_pictures_begin_later(tmp_path):
    """The sound of a clip whose first picture is at one second has sounded for one second by then."""
    times = [1.0 + number / 16 for number in range(16)]
    source = write_clip(tmp_path / "clip.mkv", times=times, seconds_of_sound=2.0, codec="pcm_s16le")
    extend(tmp_path, source, frames=32)
    before, after = sound_samples(source), sound_samples(tmp_path / "out.mp4")
    later = before.samples[before.rate :]
    length = min(len(later), len(after.samples))
    assert length > 0.8 * before.rate
    assert np.corrcoef(later[:length], after.samples[:length])[0, 1] > 0.99


def extend(folder, source, frames):
    pictures = (np.zeros((32, 32, 3), np.uint8) for _ in range(frames))
    write_pictures(pictures, (32, 32), folder / "out.mp4", 16, sound=source)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
def test_a_video_is_written_as_its_pictures_come(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)

    def peak(count):
        reset_peak()
        write_pictures((picture.copy() for _ in range(count)), (64, 64), tmp_path / "out.mp4", 16)
        return resident("VmHWM")

    peak(200)
    short, long = peak(200), peak(2000)
    assert long < 1.05 * short
