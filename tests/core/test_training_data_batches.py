"""Batches are a function of the seed and the step, and every clip is seen as often as the others."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pusa_core.training.cache import Cache, Entry
from pusa_core.training.clips import Clip
from pusa_core.training.data import Batches, Order, ReadAhead, Sampling, split
from pusa_core.training.excerpts import Excerpt

SIZES = [(64, 32), (32, 64), (64, 32), (64, 32), (32, 64), (64, 32), (64, 32)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A cache and its entries; clip ``i`` is all ``i`` and so is its caption; the missing caption is all -1."""
    cache, entries = Cache(tmp_path_factory.mktemp("cache")), []
    for i, (width, height) in enumerate(SIZES):
        clip, excerpt = Clip(Path(f"{i}.mp4"), str(i)), Excerpt(0, 9, 16.0)
        entry = Entry(clip, (width, height), f"content{i}", f"latents{i}", f"context{i}", excerpt)
        cache.write(entry.latents, torch.full((16, 3, height // 8, width // 8), float(i)))
        cache.write(entry.context, torch.full((2, 8), float(i)), 4)
        entries.append(entry)
    cache.write("none", torch.full((1, 8), -1.0), 4)
    return cache, entries


@pytest.fixture
def batches(clips):
    def build(*, batch=2, rank=0, world=1, seed=7, p_async=1.0, shift=5.0, caption_dropout=0.0, **options):
        sampling = Sampling(seed, p_async, shift, caption_dropout, **options)
        return Batches(*clips, "none", batch, sampling, rank, world)

    return build


def parts(batch):
    return batch.latents, batch.context, batch.noise, batch.sigmas


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(parts(a), parts(b), strict=True))


def clip_numbers(batch):
    return [int(latents.flatten()[0]) for latents in batch.latents]


def test_a_batch_depends_on_seed_and_step_alone(batches):
    first, second = batches(), batches()
    forwards = [first[i] for i in range(9)]
    assert all(same(forwards[i], second[i]) for i in reversed(range(9)))  # as after a resume: any step first
    other = batches(seed=8)
    assert not any(torch.equal(forwards[i].sigmas, other[i].sigmas) for i in range(9))
    assert len({batch.sigmas.sum().item() for batch in forwards}) == 9


def test_read_ahead_gives_the_same_batches_in_any_order(batches):
    plain, ahead = batches(), ReadAhead(batches())
    assert all(same(ahead[index], plain[index]) for index in (0, 1, 2, 7, 3, 3, 4))


def test_the_next_batch_is_read_before_it_is_asked_for(batches):
    class Recorded:
        def __getitem__(self, index):
            read.append(index)
            if index == 2:
                raise OSError("damaged")
            return plain[index]

    read, plain = [], batches()
    ahead = ReadAhead(Recorded())
    ahead[0]
    ahead._pool.submit(int).result()  # when this is done, all before it is
    assert read == [0, 1]
    ahead[1]  # reads batch 2, in vain
    with pytest.raises(OSError, match="damaged"):
        ahead[2]


def test_a_batch_holds_clips_of_one_size_with_their_own_captions(batches):
    all_batches = batches()
    for index in range(8):
        batch = all_batches[index]
        numbers = clip_numbers(batch)
        assert len({SIZES[i] for i in numbers}) == 1
        assert batch.latents.shape == batch.noise.shape and batch.latents.shape[:3] == (2, 16, 3)
        assert batch.sigmas.shape == (2, 3)
        assert [int(context[0, 0]) for context in batch.context] == numbers
        assert batch.context.shape == (2, 4, 8) and not batch.context[:, 2:].any()  # zeros past the caption


def test_processes_share_the_batches_of_one_process(batches):
    together = batches(batch=4)
    shares = [batches(batch=2, rank=rank, world=2) for rank in range(2)]
    for index in range(6):
        joined = [torch.cat(pair) for pair in zip(*(parts(share[index]) for share in shares), strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(parts(together[index]), joined, strict=True))


@given(
    sizes=st.lists(st.sampled_from([(16, 16), (32, 16), (16, 32)]), min_size=1, max_size=30), batch=st.integers(1, 7)
)
def test_every_epoch_sees_every_clip(sizes, batch):
    order = Order(sizes, batch, seed=3)
    for epoch in range(2):
        seen = [order[epoch * order.per_epoch + i] for i in range(order.per_epoch)]
        assert all(len(clips) == batch and len({sizes[i] for i in clips}) == 1 for clips in seen)
        counts = Counter(i for clips in seen for i in clips)
        for size in set(sizes):
            group = [counts[i] for i, other in enumerate(sizes) if other == size]
            assert min(group) >= 1 and max(group) - min(group) <= 1  # the last batch is filled up, evenly


def test_epochs_differ_in_order():
    order = Order([(16, 16)] * 20, 1, seed=0)
    epochs = [[order[epoch * 20 + i] for i in range(20)] for epoch in range(3)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_captions_are_dropped_as_often_as_asked(batches):
    def dropped(share):
        all_batches = batches(caption_dropout=share)
        return sum(int(context[0, 0]) == -1 for i in range(150) for context in all_batches[i].context) / 300

    assert dropped(0.0) == 0 and dropped(1.0) == 1
    assert dropped(0.3) == pytest.approx(0.3, abs=0.08)  # three standard deviations of 300 draws


def test_frames_have_their_own_noise_levels_or_share_one(batches):
    own, shared = batches(), batches(p_async=0.0)
    assert all(len(set(sigmas.tolist())) == 3 for i in range(5) for sigmas in own[i].sigmas)
    assert all(len(set(sigmas.tolist())) == 1 for i in range(5) for sigmas in shared[i].sigmas)


def test_regions_have_levels_of_their_own_and_change_nothing_else(batches):
    plain, regions, again = batches(), batches(p_region=1.0), batches(p_region=1.0)
    for i in range(5):
        assert same(regions[i], again[i])
        assert all(torch.equal(*pair) for pair in zip(parts(regions[i])[:3], parts(plain[i])[:3], strict=True))
        for levels, own in zip(regions[i].sigmas, plain[i].sigmas, strict=True):
            assert levels.shape == (3, *(side // 2 for side in regions[i].latents.shape[-2:]))
            own = own[:, None, None].expand_as(levels)
            changed = levels[levels != own]
            assert changed.numel() and len(changed.unique()) <= 3
    assert torch.equal(batches(p_region=1e-9)[0].sigmas[..., 0, 0], plain[0].sigmas)


def test_noise_is_new_for_every_sample(batches):
    all_batches = batches()
    noises = torch.cat([all_batches[i].noise.flatten(1)[:, :100] for i in range(20)])
    assert len({row.sum().item() for row in noises}) == 40
    assert noises.mean().item() == pytest.approx(0, abs=0.06) and noises.std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("validation, held", [(0, 0), (1, 1), (3, 3), (0.3, 2), (0.01, 1), (0.5, 4)])
def test_clips_are_held_out_by_count_or_share(clips, validation, held):
    train, validate = split(clips[1], validation)
    assert len(validate) == held
    assert sorted(entry.content for entry in train + validate) == [f"content{i}" for i in range(7)]


def test_what_is_held_out_does_not_depend_on_names_or_order(clips):
    _, before = split(clips[1], 2)
    renamed = [replace(e, clip=Clip(Path(f"x{i}"), "y")) for i, e in enumerate(reversed(clips[1]))]
    _, after = split(renamed, 2)
    assert {entry.content for entry in before} == {entry.content for entry in after}


@pytest.mark.parametrize("validation", [7, 10, 0.99])
def test_nothing_left_to_train_on_is_refused(clips, validation):
    with pytest.raises(ValueError, match=rf"data\.validation is {validation:g}: of 7 usable clips none is left"):
        split(clips[1], validation)


def test_frames_of_a_clip_have_independent_noise_levels(batches):
    """Any order of the levels is as likely as any other, and no frame's level tells another's."""
    all_batches = batches(batch=7)
    sigmas = torch.cat([all_batches[i].sigmas for i in range(300)])  # [2100, 3]
    orders = Counter(tuple(row.argsort().tolist()) for row in sigmas)
    assert len(orders) == 6
    assert all(count / len(sigmas) == pytest.approx(1 / 6, abs=0.04) for count in orders.values())  # 5 deviations
    assert (torch.corrcoef(sigmas.T) - torch.eye(3)).abs().max() < 0.1


def test_a_clip_that_was_trained_on_is_held_out_last(clips):
    trained = {"content0", "content1"}  # the first two by content, which would be held out
    _, held = split(clips[1], 3, trained)
    assert [entry.content for entry in held] == ["content2", "content3", "content4"]
    train, held = split(clips[1], 2)
    again = split(clips[1], 2, {entry.content for entry in train})
    assert again == (train, held)
    assert len(split(clips[1], 3, {entry.content for entry in clips[1]})[1]) == 3
