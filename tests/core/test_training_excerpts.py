"""Lengths, excerpts, sizes and folders: which frames of which clips are trained on, and how often."""

import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from pusa_core.training.clips import area_sizes, find_clips, nearest_size
from pusa_core.training.config_file import parse_config, read_config, to_toml
from pusa_core.training.data import Order, split
from pusa_core.training.excerpts import Excerpt, excerpts_of, read_excerpts
from pusa_core.training.launch import Launch
from pusa_core.training.prepare import Preparation
from pusa_core.training.scan import Facts, KnownClips, scan
from tests.core.test_training_data_cache import CountingEncoders
from tests.core.test_training_scan import Recorded
from tests.support.training_videos import grey_frames, required_options, small_config, write_clip


def spans(data, length, still=False):
    """First frame and length of each excerpt of a clip that has so many frames."""
    facts = Facts("x", (64, 64), 16.0, still, ((data.fps, length),) if data.counted_rates else ())
    return [(excerpt.start, excerpt.frames) for excerpt in excerpts_of(data, facts)]


@pytest.mark.parametrize(
    ("options", "length", "expected"),
    [
        ({}, 3, [(0, 9)]),  # not counted; reading finds that it is too short
        ({"lengths": "[5, 9, 17]"}, 16, [(0, 9)]),
        ({"lengths": "[5, 9, 17]"}, 40, [(0, 17)]),
        ({"auto_lengths": "true"}, 8, [(0, 5)]),
        ({"auto_lengths": "true"}, 40, [(0, 9)]),
        ({"excerpt": "spread", "excerpt_count": "3"}, 30, [(0, 9), (10, 9), (21, 9)]),
        ({"excerpt": "spread", "excerpt_count": "3"}, 10, [(0, 9), (1, 9)]),  # as many as there are
        ({"excerpt": "spread", "excerpt_count": "1"}, 29, [(10, 9)]),
        ({"excerpt": "sliding"}, 18, [(0, 9), (4, 9), (8, 9)]),
        ({"excerpt": "sliding", "excerpt_stride": "9"}, 18, [(0, 9), (9, 9)]),
        ({"excerpt": "all"}, 26, [(0, 9), (9, 9)]),
        ({"excerpt": "all", "auto_lengths": "true"}, 26, [(0, 9), (9, 9), (18, 5)]),
        ({"excerpt": "all", "lengths": "[5, 9]"}, 22, [(0, 9), (9, 9)]),
    ],
)
def test_excerpts_of_a_clip(tmp_path, options, length, expected):
    data = small_config(tmp_path, data_frames=9, **{f"data_{name}": value for name, value in options.items()}).data
    assert spans(data, length) == expected
    assert spans(data, 1, still=True) == [(0, 1)]


def test_a_clip_that_is_too_short_for_every_length_is_refused_with_the_least(tmp_path):
    for options, needed in (({"data_lengths": "[9, 17]"}, 9), ({"data_auto_lengths": "true", "data_frames": 17}, 5)):
        with pytest.raises(ValueError, match=f"too short: 4 frames at 16 frames per second, {needed} are needed"):
            spans(small_config(tmp_path, **options).data, 4)


def test_excerpts_are_read_in_one_pass_and_hold_their_own_frames(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "clip.mp4", grey_frames(30))
    opened, frames_at = [], read_excerpts.__globals__["frames_at"]
    monkeypatch.setitem(read_excerpts.__globals__, "frames_at", lambda *a: opened.append(a) or frames_at(*a))
    wanted = [Excerpt(0, 9, 16.0), Excerpt(2, 5, 16.0), Excerpt(5, 9, 16.0), Excerpt(21, 9, 16.0)]
    for excerpt, pixels in zip(wanted, read_excerpts(path, (32, 32), wanted), strict=True):
        numbers = (pixels.mean(dim=(1, 2, 3)) * 255 / 8).round().int().tolist()
        assert numbers == list(range(excerpt.start, excerpt.stop))
    assert len(opened) == 1
    with pytest.raises(ValueError, match="too short: 8 frames"):
        list(read_excerpts(path, (32, 32), [Excerpt(22, 9, 16.0)]))


@pytest.mark.parametrize("area", [832 * 480, 64 * 64, 1280 * 720])
@pytest.mark.parametrize("shape", [(1920, 1080), (1080, 1920), (1000, 1000), (1440, 1080), (2560, 1080)])
def test_a_size_that_is_found_by_itself_has_the_shape_and_the_area(area, shape):
    sizes = area_sizes(area)
    assert all(width % 16 == height % 16 == 0 and width * height <= area for width, height in sizes)
    assert {(height, width) for width, height in sizes} == set(sizes)
    width, height = nearest_size(shape, sizes)
    cut = max(width / height * shape[1] / shape[0], height / width * shape[0] / shape[1]) - 1
    assert (width * height / area > 0.9 and cut < 0.05) or (area == 64 * 64 and cut < 0.3)


def captioned(path, frames=None, size=(32, 32), fps=16):
    path.parent.mkdir(exist_ok=True, parents=True)
    if frames is None:
        Image.fromarray(np.full((*size[::-1], 3), 80, np.uint8)).save(path)
    else:
        write_clip(path, grey_frames(frames, *size), fps)
    os.utime(path, (1e9, 1e9))
    path.with_suffix(".txt").write_text(path.stem)


def test_pictures_are_clips_of_one_frame_unless_they_belong_to_a_video(tmp_path):
    folder, skipped = tmp_path / "clips", {}
    for name, frames in (("a.mp4", 9), ("still.png", None), ("b.mp4", 9), ("b.jpg", None), ("c.webp", None)):
        captioned(folder / name, frames)
    clips = find_clips(folder, skipped.__setitem__)
    assert [clip.path.name for clip in clips] == ["a.mp4", "b.mp4", "c.webp", "still.png"]
    assert list(skipped) == ["b.jpg"] and "same name as b.mp4" in skipped["b.jpg"]
    facts = scan(clips, KnownClips(tmp_path), skipped.__setitem__, lambda *_: None)
    assert [facts[clip.path].still for clip in clips] == [False, False, True, True]


class Prepared:
    """The excerpts that a run with these options trains on, with an encoder that counts."""

    def __init__(self, config, counter=None):
        self.counter, self.report = counter or CountingEncoders(), Recorded()
        load = lambda *_, **__: self.counter  # noqa: E731
        self.preparation = Preparation(config, load, load, Launch(config.train), self.report)
        self.data = self.preparation.encode()

    def events(self, name):
        return [values for event, values in self.report.events if event == name]

    def names(self):
        return Counter((entry.clip.path.name, *entry.bucket, entry.excerpt.start) for entry in self.data.train)


def tables(tmp_path, *sources, **options):
    flags = {name: value for name, value in required_options(tmp_path).items() if name != "data.folder"}
    flags |= {"data.width": "32", "data.height": "32", "data.frames": "9", "train.device": "cpu"}
    return parse_config({"data": {"sources": list(sources), **options}}, flags)


@pytest.fixture
def two_folders(tmp_path):
    for name, frames, size in (("a", 30, (64, 32)), ("b", 12, (32, 32))):
        captioned(tmp_path / "x" / f"{name}.mp4", frames, size)
    captioned(tmp_path / "y" / "a.mp4", 20, (32, 32), fps=32)
    captioned(tmp_path / "y" / "photo.png")
    return {"folder": str(tmp_path / "x")}, {"folder": str(tmp_path / "y"), "repeats": 3, "frames": 5}


def test_folders_have_options_of_their_own(tmp_path, two_folders):
    x, y = two_folders
    x |= {"excerpt": "all", "auto_buckets": True}
    prepared = Prepared(tables(tmp_path, x, y, lengths=[5, 9]))
    # x has [data]'s lengths, y its own and the first excerpt at Wan's rate
    assert prepared.names() == {
        ("a.mp4", 48, 16, 9, 0): 1,
        ("a.mp4", 48, 16, 9, 9): 1,
        ("a.mp4", 48, 16, 9, 18): 1,
        ("b.mp4", 32, 32, 9, 0): 1,
        ("a.mp4", 32, 32, 5, 0): 1,
        ("photo.png", 32, 32, 1, 0): 1,
    }
    assert prepared.events("resampled") == [{"clips": 1, "fps": 16.0, "file": "a.mp4", "rate": 32.0}]
    assert [entry.repeats for entry in prepared.data.train] == [1, 1, 1, 1, 3, 3]
    shapes = [tuple(prepared.data.cache.read(entry.latents).shape) for entry in prepared.data.train]
    assert shapes == [(16, 3, 2, 6)] * 3 + [(16, 3, 4, 4), (16, 2, 4, 4), (16, 1, 4, 4)]
    for entry in prepared.data.train[:3]:
        first = prepared.data.cache.read(entry.latents)[0, 0].mean().item()
        assert first == pytest.approx(entry.excerpt.start * 8 / 255, abs=0.01)
    again = Prepared(tables(tmp_path, x, y, lengths=[5, 9]))
    assert again.counter.clips == 0 and again.events("scan") == []


def test_an_epoch_has_the_clips_of_a_folder_as_often_as_it_says(tmp_path, two_folders):
    data = Prepared(tables(tmp_path, *two_folders)).data
    order = Order([entry.bucket for entry in data.train], 2, 5, [entry.repeats for entry in data.train])
    for epoch in range(2):
        batches = [order[epoch * order.per_epoch + i] for i in range(order.per_epoch)]
        assert all(len({data.train[i].bucket for i in batch}) == 1 for batch in batches)
        counts = Counter(i for batch in batches for i in batch)
        # the last batch of a bucket is filled up with clips of it
        assert all(counts[i] - entry.repeats in (0, 1) for i, entry in enumerate(data.train))


def test_a_clip_is_held_out_with_all_of_its_excerpts(tmp_path, two_folders):
    entries = Prepared(tables(tmp_path, two_folders[0], excerpt="sliding")).data.train
    train, held = split(entries, 1)
    assert len(train) + len(held) == len(entries) > 4
    assert not {entry.clip for entry in train} & {entry.clip for entry in held}
    assert len({entry.clip for entry in held}) == 1


def test_what_a_resumed_run_compares_is_which_clips_it_has_and_how_they_are_used(tmp_path, two_folders):
    x, y = two_folders
    before = Prepared(tables(tmp_path, x, y)).preparation
    assert len(before.clips()) == 4 and "data.sources[1]: a.mp4" in before.clips()
    (tmp_path / "y").rename(tmp_path / "z")
    moved = Prepared(tables(tmp_path, x, y | {"folder": str(tmp_path / "z")})).preparation
    assert moved.clips() == before.clips() and moved.contents() == before.contents()
    for change in ({"repeats": 2}, {"excerpt": "all"}):
        other = Prepared(tables(tmp_path, x, y | {"folder": str(tmp_path / "z")} | change)).preparation
        changed = {name for name, value in other.clips().items() if value != before.clips()[name]}
        assert changed == {"data.sources[1]: a.mp4", "data.sources[1]: photo.png"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"repeats": 2}, r"data\.sources\[0\]: \{'repeats': 2\} names no folder"),
        ({"folder": "F", "repeats": 0}, r"data\.sources\[0\]: data\.repeats is 0; use at least 1"),
        ({"folder": "F", "frames": 10}, r"data\.sources\[0\]: data\.frames: 10 frames"),
        ({"folder": "F", "repeat": 2}, r"unknown option repeat of data\.sources\[0\]; do you mean repeats\?"),
        ({"folder": "F", "fps": "fast"}, r"data\.sources\[0\]\.fps is 'fast'; it must be a number"),
        ({"folder": "/no/clips"}, r"data\.folder: no such folder: /no/clips"),
        (5, r"data\.sources is \[5\]; it must be a list of tables: write \[\[data\.sources\]\]"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_by_name(tmp_path, table, message):
    if isinstance(table, dict) and table.get("folder") == "F":
        table = table | {"folder": str(tmp_path)}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        tables(tmp_path, table)


def test_tables_are_written_and_read_back(tmp_path, two_folders):
    config = tables(tmp_path, *two_folders, lengths=[5, 9])
    (tmp_path / "config.toml").write_text(to_toml(config), encoding="utf-8")
    assert read_config(tmp_path / "config.toml", {}) == config
    with pytest.raises(ValueError, match=r"data\.folder and data\.sources are both set"):
        read_config(tmp_path / "config.toml", {"data.folder": str(tmp_path)})
