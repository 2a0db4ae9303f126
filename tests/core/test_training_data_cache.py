"""Encoded clips are kept, and never used for anything but what they were made from."""

import os
import shutil

import pytest
import torch
from torch import Tensor

from pusa_core.media.demo_text import encode_text
from pusa_core.storage.atomic import SaveError
from pusa_core.training import cache as cache_module
from pusa_core.training.cache import Cache, Encoders, entry_names, file_identity
from pusa_core.training.clips import find_clips
from pusa_core.training.encode import fill
from tests.support.training_videos import grey_frames, small_config, write_clip


class CountingEncoders:
    """An encoder that averages blocks of pixels, the demo's text encoder, and how often both were asked."""

    def __init__(self, vae_identity: str = "vae", text_identity: str = "text") -> None:
        self.clips = self.loads = 0
        self.texts: list[str] = []
        self.encoders = Encoders(self.load_vae, self.load_text, vae_identity, text_identity)

    def load_vae(self):
        self.loads += 1
        return self

    def load_text(self):
        self.loads += 1
        return self.text

    def encode(self, frames: Tensor) -> Tensor:
        self.clips += 1
        grey = frames[::4].mean(dim=-1)  # [F, H, W]
        return torch.nn.functional.avg_pool2d(grey, 8).expand(1, 16, -1, -1, -1)

    def text(self, caption: str) -> Tensor:
        self.texts.append(caption)
        return encode_text(caption)


@pytest.fixture
def run(tmp_path):
    """Find and encode the clips of a folder with three: ``run(counter, **options)`` -> usable entries, skipped."""
    for index, caption in enumerate(("a cat", "a dog", "a cat")):
        write_clip(tmp_path / "clips" / f"{index}.mp4", grey_frames(9, step=4 + index))
        (tmp_path / "clips" / f"{index}.txt").write_text(caption)

    def run(counter, **options):
        config, skipped, progress = small_config(tmp_path, **options), {}, []
        skip = skipped.__setitem__
        entries = entry_names(find_clips(tmp_path / "clips", skip), config.data, counter.encoders, skip)
        folder = Cache(config.data.cache_folder)
        usable = fill(folder, entries, counter.encoders, skip, lambda *a: progress.append(a), captions=("",))
        assert progress[-1][0] == progress[-1][1] and progress == sorted(progress)
        return folder, usable, skipped

    return run


def test_everything_is_encoded_once(run):
    first, again = CountingEncoders(), CountingEncoders()
    _, entries, _ = run(first)
    assert first.clips == 3 and sorted(first.texts) == ["", "a cat", "a dog"] and first.loads == 2
    assert [entry.clip.path.name for entry in entries] == ["0.mp4", "1.mp4", "2.mp4"]
    assert run(again)[1] == entries
    assert again.loads == 0  # nothing to encode, nothing is loaded


def test_entries_hold_what_the_encoders_made(run):
    counter = CountingEncoders()
    cache, entries, _ = run(counter)
    for entry, step in zip(entries, (4, 5, 6), strict=True):
        latents = cache.read(entry.latents)
        assert latents.shape == (16, 2, 4, 4) and latents.dtype == torch.float32
        assert torch.allclose(latents.mean(dim=(0, 2, 3)), torch.tensor([0, 4 * step / 255]), atol=0.01)
        assert torch.equal(cache.read(entry.context), encode_text(entry.clip.caption)[0])


def test_an_empty_caption_keeps_the_length_of_its_context(run):
    counter = CountingEncoders()
    cache, _, _ = run(counter)
    context = cache.read(cache_module.context_name("", counter.encoders))
    assert torch.equal(context, encode_text("")[0])


@pytest.mark.parametrize(
    "options", [{"data_width": 48}, {"data_frames": 9}, {"data_fps": 24}, {"data_buckets": "[[48, 32]]"}]
)
def test_other_sizes_lengths_and_rates_are_encoded_anew(run, options):
    run(CountingEncoders())
    counter = CountingEncoders()
    run(counter, **options)
    assert counter.clips == 3 and not counter.texts
    back = CountingEncoders()
    run(back)
    assert back.loads == 0  # the first ones are still there


def test_another_vae_or_text_encoder_encodes_anew(run):
    run(CountingEncoders())
    vae, text = CountingEncoders(vae_identity="other"), CountingEncoders(text_identity="other")
    run(vae)
    run(text)
    assert vae.clips == 3 and not vae.texts
    assert not text.clips and len(text.texts) == 3


def test_a_changed_clip_or_caption_is_encoded_anew_and_alone(run, tmp_path):
    _, before, _ = run(CountingEncoders())
    write_clip(tmp_path / "clips" / "1.mp4", grey_frames(9, step=9))
    (tmp_path / "clips" / "2.txt").write_text("a horse")
    counter = CountingEncoders()
    _, after, _ = run(counter)
    assert counter.clips == 1 and counter.texts == ["a horse"]
    assert [a.latents == b.latents for a, b in zip(before, after, strict=True)] == [True, False, True]


def test_a_renamed_or_touched_clip_is_not_encoded_again(run, tmp_path):
    run(CountingEncoders())
    os.utime(tmp_path / "clips" / "0.mp4", (1, 1))
    for suffix in (".mp4", ".txt"):
        shutil.move(tmp_path / "clips" / f"1{suffix}", tmp_path / "clips" / f"new{suffix}")
    counter = CountingEncoders()
    run(counter)
    assert counter.loads == 0


def test_clips_that_cannot_be_used_are_skipped_with_their_reason(run, tmp_path):
    write_clip(tmp_path / "clips" / "short.mp4", grey_frames(3))
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"no video")
    write_clip(tmp_path / "clips" / "mute.mp4", grey_frames(9))
    for name in ("short", "broken"):
        (tmp_path / "clips" / f"{name}.txt").write_text("something")
    _, usable, skipped = run(CountingEncoders())
    assert len(usable) == 3 and sorted(skipped) == ["broken.mp4", "mute.mp4", "short.mp4"]
    assert "cannot be read as a video" in skipped["broken.mp4"]
    assert "no caption" in skipped["mute.mp4"]
    assert "3 frames at 16 frames per second, 5 are needed" in skipped["short.mp4"]


def test_a_vae_that_cannot_be_loaded_is_no_reason_to_skip_clips(run):
    def load():
        raise ValueError("not a Wan2.1 VAE")

    counter = CountingEncoders()
    counter.load_vae = load
    counter.encoders = Encoders(load, counter.load_text, "vae", "text")
    with pytest.raises(ValueError, match=r"not a Wan2\.1 VAE"):
        run(counter)


@pytest.mark.parametrize("part", ["latents", "context"])
def test_a_damaged_entry_is_reported_and_made_again(run, caplog, part):
    cache, entries, _ = run(CountingEncoders())
    name = getattr(entries[0], part)
    path, good = cache.path(name), cache.read(name)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-20] ^= 4
    for damaged in (b"", whole[:5], whole[: len(whole) // 2], whole[:-1], bytes(flipped), whole + b"\0"):
        path.write_bytes(damaged)
        counter, _ = CountingEncoders(), caplog.clear()
        run(counter)
        assert counter.clips + len(counter.texts) == 1, damaged
        assert str(path) in caplog.text and "made again" in caplog.text
        assert torch.equal(cache.read(name), good)


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    """Every third bit of a file, header included: it is found out, or it changes nothing."""
    cache = Cache(tmp_path)
    good = torch.arange(12.0).view(3, 4).half()
    cache.write("entry", good, 5)
    path, expected = cache.path("entry"), cache.read("entry")
    whole = path.read_bytes()
    for place in range(0, len(whole) * 8, 3):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert not cache.holds("entry") or torch.equal(cache.read("entry"), expected), place
    path.write_bytes(whole)
    assert cache.holds("entry")


def test_an_entry_of_another_name_is_not_there(tmp_path):
    cache = Cache(tmp_path / "new" / "folder")
    cache.write("a", torch.zeros(1))
    assert cache.holds("a") and not cache.holds("b")


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def half_written(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    cache = Cache(tmp_path)
    monkeypatch.setattr(cache_module, "save_file", half_written)
    with pytest.raises(SaveError, match="no space"):
        cache.write("entry", torch.zeros(4))
    assert list(tmp_path.iterdir()) == [] and not cache.holds("entry")


def test_weights_are_told_apart_by_content_not_by_place(tmp_path):
    weights = bytes(range(256)) * 1000
    file, copy, other = (tmp_path / name for name in ("a.bin", "b.bin", "c.bin"))
    file.write_bytes(weights)
    copy.write_bytes(weights)
    other.write_bytes(weights[:-1] + b"\0")
    assert file_identity(file) == file_identity(copy) != file_identity(other)
    folders = [tmp_path / name for name in ("x", "y")]
    for folder, source in zip(folders, (file, other), strict=True):
        folder.mkdir()
        shutil.copy(source, folder / "weights.bin")
    assert file_identity(folders[0]) != file_identity(folders[1])
    shutil.copy(file, folders[1] / "weights.bin")
    assert file_identity(folders[0]) == file_identity(folders[1])
