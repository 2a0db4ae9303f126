"""Who does what a message says gets no further message."""

import re

import pytest
import torch

from pusa_core import Given, latent_length, parse_noise_levels
from pusa_core.sampling.keyframes import check_size, clip_start, first_latent, latent_position

FRAMES = 6  # latent frames, 21 pixel frames


def advice(call, pattern):
    """The numbers that the refusal of ``call`` names behind ``pattern``, or None where it is not refused."""
    try:
        call()
    except ValueError as error:
        found = re.search(pattern, str(error))
        assert found, f"no advice in: {error}"
        return [int(number) for number in found.groups() if number is not None]
    return None


@pytest.mark.parametrize("frames", range(-3, 40))
def test_the_nearest_length_is_one(frames):
    if found := advice(lambda: latent_length(frames), r"use (\d+)$"):
        latent_length(*found)


@pytest.mark.parametrize("size", [(100, 64), (64, 40), (0, 64), (7, 7), (1000, 1001), (24, 8)])
def test_the_size_to_resize_to_is_accepted(size):
    check_size(*advice(lambda: check_size(*size), r"resize to (\d+) x (\d+)"))


@pytest.mark.parametrize("clip", [1, 2, 4, 8])
@pytest.mark.parametrize("pixel", range(-25, 25))
def test_the_pixel_frame_to_use_is_accepted(pixel, clip):
    found = advice(
        lambda: latent_position(pixel, clip, FRAMES), r"use (-?\d+)|\(0 to (\d+), or -1 to -\d+ from the end\)"
    )
    if found:
        latent_position(found[0], 1 if found[0] == 20 else clip, FRAMES)


@pytest.mark.parametrize("length", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("position", range(-8, 8))
def test_the_latent_frame_to_begin_or_end_at_is_accepted(position, length):
    try:
        first_latent(position, length, FRAMES)
    except ValueError as error:
        text = str(error)
        if found := re.search(r"start at (\d+) or before", text):
            assert first_latent(int(found[1]), length, FRAMES) == int(found[1])
        elif found := re.search(r"end it at (\d+) or later", text):
            assert first_latent(int(found[1]) - FRAMES, length, FRAMES) == 0
        elif "does not exist" in text:
            low, high = (int(number) for number in re.search(r"0 to (\d+), or -1 to -(\d+)", text).groups())
            first_latent(low, 1, FRAMES)
            first_latent(-high, 1, FRAMES)
        else:
            assert "make the video longer" in text
            first_latent(0, length, length)


@pytest.mark.parametrize("frames", [22, 25, 40])
def test_a_longer_video_takes_the_clip(frames):
    with pytest.raises(ValueError, match="make the video longer"):
        clip_start(frames, 0, FRAMES)
    clip_start(frames, 0, 11)


def test_the_size_of_a_picture_to_place_is_accepted():
    empty = Given.empty(torch.zeros(1, 16, 1, 4, 8), 3)
    width, height = advice(lambda: empty.place(torch.zeros(1, 16, 1, 2, 2), 0), r"resize the picture to (\d+) x (\d+)")
    empty.place(torch.zeros(1, 16, 1, height // 8, width // 8), 0)


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("0=0.3", "0:0.3"),  # FRAME:LEVEL
        ("6:0", "5:0"),  # 0 to 5
        ("p30:0", "p20:0"),
        ("4-2:0.5", "2-4:0.5"),  # swap its ends
        ("2:0..1", "2-3:0..1"),  # at least two
        ("0:0.3, 0-1:0.4", "0:0.3, 1:0.4"),  # name each frame once
        ("0:2", "0:1"),  # from 0 to 1
        ("0:x", "0:0.3, -1:0.7, 3-4:0.2"),  # the example
    ],
)
def test_a_text_mended_as_the_message_says_is_accepted(text, mended):
    with pytest.raises(ValueError, match="noise level"):
        parse_noise_levels(text, FRAMES)
    parse_noise_levels(mended, FRAMES)
