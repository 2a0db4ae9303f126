"""Hostile texts, keyframes and levels: accepted with what holds of every video, or refused with a reason."""

import time
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pusa_core import Given, Keyframe, Settings, encode_keyframes, latent_length, parse_noise_levels
from pusa_core.sampling.keyframes import latent_position
from pusa_core.sampling.pipeline import parse_keyframe
from pusa_core.sampling.schedule import check_entries, named_noise_levels, parse_entries
from tests.support.fuzz import fuzz

CASES = 300
LONGEST_MESSAGE = 400

frame_numbers = st.one_of(st.integers(-6, 6), st.integers(-(10**12), 10**12))
level_texts = st.one_of(
    st.sampled_from(["0", "1", ".3", "0..1", "0.2..0.5", "1e-1", "nan", "inf", "-0", "1.5", "..", "0..", "_1", ""]),
    st.floats().map(str),
    st.text(max_size=3),
)
entries = st.builds(
    lambda prefix, first, last, colon, level: f"{prefix}{first}{'' if last is None else f'-{last}'}{colon}{level}",
    st.sampled_from(["", "", "", "p", "P", "-"]),
    frame_numbers,
    st.one_of(st.none(), frame_numbers),
    st.sampled_from([":", ":", " : ", "=", "::"]),
    level_texts,
)
texts = st.one_of(
    st.lists(entries, max_size=8).flatmap(
        lambda parts: st.sampled_from([", ", ",", "; ", "\n"]).map(lambda c: c.join(parts))
    ),
    st.text(max_size=60),
    st.builds(lambda part, count: part * count, st.text(max_size=4), st.integers(0, 3000)),
)


@fuzz(CASES)
@given(text=texts, frames=st.integers(1, 9))
def test_noise_level_texts(text, frames):
    start = time.process_time()
    try:
        levels = parse_noise_levels(text, frames)
    except ValueError as error:
        assert "noise level" in str(error) and len(str(error)) < LONGEST_MESSAGE
    else:
        assert levels.shape == (frames,) and levels.ge(0).all() and levels.le(1).all()
        named = named_noise_levels(text, frames)
        assert all(levels[frame] == 1 for frame in set(range(frames)) - named.keys())
        check_entries(parse_entries(text), 1000)  # what fits a length is not refused before the length is known
    assert time.process_time() - start < 2


@dataclass
class CopyingVae:
    """Every latent holds the mean colour of the pixel frames it covers."""

    def encode(self, frames):
        latents = torch.stack(
            [frames[max(0, 4 * i - 3) : 4 * i + 1].mean((0, 1, 2)) for i in range(latent_length(len(frames)))]
        )
        return latents.T.repeat(6, 1)[:16].view(1, 16, -1, 1, 1).expand(1, 16, len(latents), 2, 2).contiguous()


sizes = st.sampled_from([(16, 16)] * 8 + [(16, 32), (0, 16), (8, 8)])
pictures = st.builds(
    lambda length, size, value, channels: torch.full((length, *size, channels), value),
    st.integers(0, 14),
    sizes,
    st.sampled_from([0.5, 0.25, 1.0, 7.0, float("nan"), float("inf")]),
    st.sampled_from([3] * 9 + [1, 4]),
)
levels = st.one_of(st.sampled_from([0.0, 0.0, 0.3, 1.0]), st.floats())
keyframes = st.tuples(pictures, st.one_of(st.integers(-6, 6), frame_numbers), levels)


@fuzz(CASES)
@given(
    chain=st.lists(keyframes, max_size=4),
    length=st.sampled_from([1, 5, 13, 17, 21]),
    text=st.one_of(st.just(""), texts),
)
def test_chains_of_keyframes(chain, length, text):
    try:
        made = [Keyframe(*each) for each in chain]
        result = encode_keyframes(CopyingVae(), made, Settings(16, 16, length), text)
    except ValueError as error:
        assert len(str(error)) < LONGEST_MESSAGE
        assert any(word in str(error) for word in ("keyframe", "noise level", "clip", "position", "latent frame"))
        return
    frames = latent_length(length)
    assert result.latents.shape == (1, 16, frames, 2, 2) and result.noise_levels.shape == (frames,)
    assert result.latents.isfinite().all()
    assert result.noise_levels.ge(0).all() and result.noise_levels.le(1).all()
    empty = result.latents.flatten(3).any(3).any(1)[0].logical_not()
    assert (result.noise_levels[empty] == 1).all()  # every frame with a lower level has been given


@fuzz(CASES)
@given(
    first=st.tuples(st.integers(-9, 9), st.integers(0, 4), levels),
    second=st.tuples(st.integers(-9, 9), st.integers(0, 4), levels),
    frames=st.integers(1, 8),
)
def test_placing_never_changes_what_was_given_before(first, second, frames):
    given_frames = Given.empty(torch.zeros(1, 16, 1, 2, 2), frames)
    for value, (position, length, level) in enumerate((first, second), 1):
        before = given_frames
        try:
            given_frames = before.place(torch.full((1, 16, length, 2, 2), float(value)), position, level)
        except ValueError as error:
            assert any(word in str(error) for word in ("keyframe", "clip", "position", "given twice"))
            continue
        kept = before.noise_levels < 1
        assert torch.equal(given_frames.latents[:, :, kept], before.latents[:, :, kept])
        assert torch.equal(given_frames.noise_levels[kept], before.noise_levels[kept])


@fuzz(CASES)
@given(text=st.one_of(st.text(max_size=20), st.from_regex(r"-?\d{1,3}=[a-z]{1,5}(:\d?\.?\d{1,3})?", fullmatch=True)))
def test_keyframe_texts(text):
    try:
        _, file, level = parse_keyframe(text)
    except ValueError as error:
        assert text in str(error)
    else:
        assert 0 <= level <= 1 and str(file)


@fuzz(CASES)
@given(pixel=frame_numbers, clip=st.integers(1, 40), frames=st.integers(1, 12))
def test_positions_in_pixel_frames(pixel, clip, frames):
    try:
        position = latent_position(pixel, clip, frames)
    except ValueError as error:
        assert str(pixel) in str(error)
    else:
        assert -frames <= position < frames


def test_a_length_of_zero_latents_is_refused():
    with pytest.raises(ValueError, match="at least 1 latent frame"):
        Given.empty(torch.zeros(1, 16, 1, 2, 2), 3).place(torch.zeros(1, 16, 0, 2, 2), 0)
