"""Pixel frames, latent frames, and placing keyframes."""

import pytest
import torch

from pusa_core import Given, Keyframe, latent_length, lead_in, pixel_frames_of, pixel_length
from pusa_core.sampling.keyframes import check_size, clip_start, first_latent, latent_frame_of, latent_position


def test_lengths():
    assert [latent_length(n) for n in (1, 5, 81)] == [1, 2, 21]
    assert pixel_length(21) == 81


@pytest.mark.parametrize(("frames", "nearest"), [(0, 1), (80, 81), (82, 81), (16, 17)])
def test_other_lengths_are_refused_with_the_nearest(frames, nearest):
    with pytest.raises(ValueError, match=rf"use {nearest}$"):
        latent_length(frames)


def test_every_pixel_frame_is_in_the_latent_frame_that_holds_it():
    held = [(latent, pixel) for latent in range(21) for pixel in pixel_frames_of(latent)]
    assert [pixel for _, pixel in held] == list(range(81))
    assert all(latent_frame_of(pixel) == latent for latent, pixel in held)


@pytest.mark.parametrize(
    ("position", "length", "start"), [(0, 1, 0), (20, 1, 20), (-1, 1, 20), (-1, 3, 18), (5, 4, 5), (-21, 1, 0)]
)
def test_positions(position, length, start):
    assert first_latent(position, length, 21) == start


@pytest.mark.parametrize(
    ("position", "length", "message"),
    [(21, 1, "does not exist"), (-22, 1, "does not exist"), (19, 3, "does not fit"), (-20, 3, "cannot end")],
)
def test_positions_that_do_not_fit(position, length, message):
    with pytest.raises(ValueError, match=message):
        first_latent(position, length, 21)


def test_a_clip_at_the_start_may_be_one_pixel_frame_past_a_multiple_of_four():
    assert clip_start(13, 0, 4) == 0
    assert clip_start(81, -1, 21) == 0
    with pytest.raises(ValueError, match="does not fit"):
        clip_start(14, 0, 4)


@pytest.mark.parametrize(
    ("pixel_frame", "clip_frames", "position"),
    [(0, 1, 0), (0, 13, 0), (1, 4, 1), (69, 12, 18), (74, 1, 19), (-1, 1, -1), (-1, 12, -1), (-2, 1, -1), (-5, 8, -2)],
)
def test_positions_in_pixel_frames(pixel_frame, clip_frames, position):
    assert latent_position(pixel_frame, clip_frames, 21) == position


@pytest.mark.parametrize(
    ("pixel_frame", "clip_frames", "message"),
    [
        (81, 1, "pixel frame 81 does not exist: the video has 81"),
        (-82, 1, "pixel frame -82 does not exist"),
        (70, 12, r"cannot begin at pixel frame 70, in the middle of a latent frame \(69 to 72\); use 69"),
        (-2, 12, r"cannot end at pixel frame -2, .* use -1"),
    ],
)
def test_pixel_frames_that_do_not_fit(pixel_frame, clip_frames, message):
    with pytest.raises(ValueError, match=message):
        latent_position(pixel_frame, clip_frames, 21)


def test_lead_in_repeats_the_first_frame_and_fills_the_last_latent():
    clip = torch.arange(6.0).view(6, 1)
    frames, drop = lead_in(clip, 3, frames=5)
    assert frames.flatten().tolist() == [0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 5, 5]
    assert drop == 2  # latents of the lead-in; the clip's own are ceil(6 / 4) = 2
    assert latent_length(len(frames)) - drop == 2


def test_a_clip_placed_by_its_end_keeps_its_end():
    clip = torch.arange(6.0).view(6, 1)
    frames, drop = lead_in(clip, 3, frames=5, from_end=True)
    assert frames.flatten().tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5]
    assert drop == 2
    assert torch.equal(lead_in(clip[:5], 0, from_end=True)[0], clip[:5])  # at the start there is nothing to fill


def test_a_clip_at_the_start_has_no_lead_in():
    frames, drop = lead_in(torch.zeros(13, 1), 0)
    assert (len(frames), drop) == (13, 0)


def test_placing_two_keyframes():
    given = Given.empty(torch.zeros(1, 16, 1, 4, 4), 5).place(torch.full((1, 16, 1, 4, 4), 2.0), 0)
    given = given.place(torch.full((1, 16, 2, 4, 4), 3.0), -1, noise_level=0.3)
    assert torch.allclose(given.noise_levels, torch.tensor([0, 1, 1, 0.3, 0.3]))
    assert given.latents[0, 0, :, 0, 0].tolist() == [2, 0, 0, 3, 3]


def test_two_keyframes_on_one_frame_are_refused():
    given = Given.empty(torch.zeros(1, 16, 1, 4, 4), 5).place(torch.ones(1, 16, 1, 4, 4), 4)
    with pytest.raises(ValueError, match="latent frame 4 is given twice"):
        given.place(torch.ones(1, 16, 2, 4, 4), -1)


def test_a_keyframe_of_another_size_is_refused():
    with pytest.raises(ValueError, match="resize the picture to 32 x 32"):
        Given.empty(torch.zeros(1, 16, 1, 4, 4), 5).place(torch.ones(1, 16, 1, 4, 6), 0)


@pytest.mark.parametrize("size", [(100, 64), (64, 40), (0, 64)])
def test_sizes_must_be_divisible_by_sixteen(size):
    with pytest.raises(ValueError, match="divisible by 16"):
        check_size(*size)


def test_a_lead_in_is_five_frames_long():
    """What ``benchmarks/demo_model/LEAD_IN.md`` found best."""
    frames, drop = lead_in(torch.arange(4.0).view(4, 1), 3)
    assert frames.flatten().tolist() == [0, 0, 0, 0, 0, 0, 1, 2, 3]
    assert drop == 2


def test_a_clip_without_frames_is_refused():
    with pytest.raises(ValueError, match="the clip has no frames"):
        lead_in(torch.zeros(0, 4, 4, 3), 0)


@pytest.mark.parametrize("level", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_keyframe_with_a_level_outside_its_range_is_refused(level):
    with pytest.raises(ValueError, match="the keyframe at 2 has the noise level"):
        Keyframe(torch.zeros(1, 16, 16, 3), 2, level)
    with pytest.raises(ValueError, match="the keyframe at 2 has the noise level"):
        Given.empty(torch.zeros(1, 16, 1, 4, 4), 5).place(torch.ones(1, 16, 1, 4, 4), 2, level)


@pytest.mark.parametrize("shape", [(0, 16, 16, 3), (16, 16, 3), (1, 16, 16, 4), (1, 0, 16, 3)])
def test_a_keyframe_that_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match=r"the keyframe at 0 has shape .*\[frames, height, width, 3\]"):
        Keyframe(torch.zeros(shape))
