"""What is known of a clip's file is read once, and never taken for another file's."""

import os

import pytest
import torch
from safetensors.torch import save_file

from pusa_core.training import scan as scan_module
from pusa_core.training.cache import Cache, entry_names
from pusa_core.training.clips import Clip, find_clips
from pusa_core.training.launch import Launch
from pusa_core.training.prepare import Preparation
from pusa_core.training.scan import Facts, KnownClips, rate_warning, scan
from tests.support.training_videos import grey_frames, small_config, write_clip

OLD = (1_000_000_000, 1_000_000_000)


class Recorded:
    def __init__(self):
        self.events = []

    def __call__(self, event, **values):
        self.events.append((event, values))

    def close(self):
        pass


@pytest.fixture
def clips(tmp_path):
    for number in range(3):
        path = write_clip(tmp_path / "clips" / f"{number}.mp4", grey_frames(5, step=4 + number), fps=16)
        path.with_suffix(".txt").write_text("a cat")
        os.utime(path, OLD)
    return tmp_path / "clips"


@pytest.fixture
def reads(monkeypatch):
    """Names of the files whose every byte is read."""
    names, file_hash = [], scan_module.file_hash
    monkeypatch.setattr(scan_module, "file_hash", lambda path: names.append(path.name) or file_hash(path))
    return names


def prepared(tmp_path, **options):
    report = Recorded()
    config = small_config(tmp_path, **{"data_fps": 16, "train_device": "cpu", **options})
    Preparation(config, lambda *_, **__: None, lambda *_, **__: None, Launch(config.train), report)
    return report.events


def test_a_second_start_reads_no_clip(tmp_path, clips, reads):
    first = prepared(tmp_path)
    assert first == [("scan", {"done": done, "total": 3}) for done in range(4)]  # progress before the first is read
    assert reads == ["0.mp4", "1.mp4", "2.mp4"]
    assert prepared(tmp_path) == [] and len(reads) == 3


def test_a_changed_clip_alone_is_read_again(tmp_path, clips, reads):
    prepared(tmp_path)
    write_clip(clips / "1.mp4", grey_frames(5, step=9))
    assert prepared(tmp_path) == [("scan", {"done": done, "total": 1}) for done in range(2)]
    assert reads[3:] == ["1.mp4"]
    prepared(tmp_path)  # it changed too short a time ago for its time to tell
    assert reads[4:] == ["1.mp4"]


def test_a_file_of_the_same_size_and_another_time_is_read_again(clips, tmp_path, reads):
    prepared(tmp_path)
    os.utime(clips / "2.mp4", (OLD[0], OLD[1] + 5))
    prepared(tmp_path)
    assert reads[3:] == ["2.mp4"]


@pytest.mark.parametrize("content", ["", "{", '{"format": 0}', '{"format": 1, "clips": [[1]]}', "[]", "\0"])
def test_a_damaged_list_is_read_anew(tmp_path, clips, reads, content):
    prepared(tmp_path)
    (clips / ".pusa_cache" / "clips.json").write_text(content)
    prepared(tmp_path)
    assert len(reads) == 6


def test_a_file_that_is_no_video_is_skipped_with_its_reason(tmp_path, clips):
    (clips / "notes.mp4").write_bytes(b"no video")
    skipped = {}
    found = scan([Clip(clips / "notes.mp4", "x")], KnownClips(tmp_path), skipped.__setitem__, lambda *_: None)
    assert not found and "cannot be read as a video" in skipped["notes.mp4"]


def test_facts_from_the_list_give_the_same_entries(tmp_path, clips):
    from tests.core.test_training_data_cache import CountingEncoders

    config, encoders = small_config(tmp_path), CountingEncoders().encoders
    found = find_clips(clips, lambda *_: None)
    first = entry_names(found, config.data, encoders, lambda *_: None)
    prepared(tmp_path)
    known = scan(found, KnownClips(config.data.cache_folder), lambda *_: None, lambda *_: None)
    assert entry_names(found, config.data, encoders, lambda *_: None, known) == first


def test_clips_of_another_rate_are_warned_about_with_the_numbers(tmp_path, clips):
    write_clip(clips / "fast.mp4", grey_frames(5), fps=30).with_suffix(".txt").write_text("a cat")
    (text,) = [values["text"] for event, values in prepared(tmp_path, data_fps=0) if event == "warning"]
    assert "data.fps is 0" in text and "1 of 4 clips" in text and "fast.mp4 with 30" in text
    assert "1.9 times too slow; set data.fps to 16" in text
    assert not [event for event, _ in prepared(tmp_path, data_fps=16) if event == "warning"]


def test_clips_of_wans_rate_are_not_warned_about(tmp_path):
    near = {tmp_path / name: Facts("x", (1, 1), rate) for name, rate in {"a": 16.0, "b": 16.02, "c": 0.0}.items()}
    assert rate_warning(near) == ""
    assert "2 times too fast" in rate_warning({tmp_path / "a": Facts("x", (1, 1), 8.0)})


def test_a_cache_that_cannot_be_made_names_the_option(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot make the cache folder .*file.*; set data\.cache to a folder"):
        Cache(tmp_path / "file" / "cache")


def test_two_writers_of_one_entry_do_not_disturb_each_other(tmp_path, monkeypatch):
    """The second begins and ends while the first is writing."""
    first, second = Cache(tmp_path), Cache(tmp_path)
    written = []

    def overtaken(tensors, path, metadata):
        save_file(tensors, path, metadata)
        if not written:
            written.append(path)
            second.write("entry", torch.ones(4))
            assert path.exists()  # the first one's temporary file is its own

    monkeypatch.setattr("pusa_core.training.cache.save_file", overtaken)
    first.write("entry", torch.ones(4))
    assert first.holds("entry") and len(list(tmp_path.iterdir())) == 1


def test_a_clip_that_is_encoded_to_numbers_that_are_not_finite_is_skipped(tmp_path, clips):
    from pusa_core.training.encode import fill
    from tests.core.test_training_data_cache import CountingEncoders

    class Broken(CountingEncoders):
        def encode(self, frames):
            latents = super().encode(frames).clone()
            return latents * float("nan") if self.clips == 2 else latents

    config, encoders, skipped = small_config(tmp_path), Broken().encoders, {}
    found = find_clips(clips, lambda *_: None)
    entries = entry_names(found, config.data, encoders, lambda *_: None)
    usable = fill(Cache(tmp_path / "cache"), entries, encoders, skipped.__setitem__, lambda *_: None)
    assert [entry.clip.path.name for entry in usable] == ["0.mp4", "2.mp4"] and "not finite" in skipped["1.mp4"]
