"""The picture of the noise levels."""

import numpy as np
import torch
from PIL import Image

from pusa_core.analysis.timeline import (
    CELL_HEIGHT,
    CELL_WIDTH,
    FEET,
    GAP,
    GUTTER,
    HATCH,
    LINE,
    MISSING,
    RULER,
    draw_timeline,
)


def cell(picture: Image.Image, frame: int) -> np.ndarray:
    """The pixels of a cell of the first row."""
    left = GUTTER + (0 if frame == 0 else CELL_WIDTH // 4 + GAP + (frame - 1) * (CELL_WIDTH + GAP))
    width = CELL_WIDTH // 4 if frame == 0 else CELL_WIDTH
    return np.asarray(picture.crop((left, RULER, left + width, RULER + CELL_HEIGHT)))


def has(pixels: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (pixels == color).all(-1)


def test_the_line_of_a_bar_is_as_high_as_its_level():
    picture = draw_timeline(torch.tensor([0.0, 0.25, 0.5, 0.75, 0.0]))
    for frame, level in ((1, 0.25), (2, 0.5), (3, 0.75)):
        rows = np.flatnonzero(has(cell(picture, frame), LINE)[:, 5])
        assert abs(rows.mean() - CELL_HEIGHT * (1 - level)) < 4


def test_kept_new_and_missing_frames_differ_without_colour():
    picture = draw_timeline(torch.tensor([1.0, 0.0, 1.0, 0.0]), {3}).convert("L").convert("RGB")
    kept, new, missing = (cell(picture, frame).astype(float) for frame in (1, 2, 3))
    for one, other in ((kept, new), (kept, missing), (new, missing)):
        assert (np.abs(one - other) > 30).mean() > 0.03


def test_only_a_frame_that_nobody_gave_is_hatched_in_red():
    picture = draw_timeline(torch.tensor([1.0, 0.0, 0.5, 0.0]), {3})
    assert [bool(has(cell(picture, frame), MISSING).any()) for frame in range(4)] == [False, False, False, True]


def test_given_frames_show_their_picture():
    blue = Image.new("RGB", (8, 6), (10, 20, 200))
    picture = draw_timeline(torch.tensor([1.0, 0.3, 0.3]), pictures={1: blue})
    assert has(cell(picture, 1), (10, 20, 200)).mean() > 0.3
    assert not has(cell(picture, 2), (10, 20, 200)).any()


def test_a_frame_with_areas_shows_its_picture_where_it_is_kept_and_is_hatched_where_it_is_new():
    levels = torch.ones(3, 2, 4)
    levels[1, :, :2], levels[2] = 0.0, 0.0
    blue = Image.new("RGB", (8, 4), (10, 20, 200))
    picture = draw_timeline(levels, pictures={1: blue, 2: blue})
    shown = has(cell(picture, 1), (10, 20, 200))
    assert shown[:40, :50].all() and not shown[:, CELL_WIDTH // 2 + 1 :].any()
    assert has(cell(picture, 1), HATCH)[:, CELL_WIDTH // 2 + 1 :].any()
    assert np.array_equal(cell(picture, 2), cell(draw_timeline(levels[:, 0, 0], pictures={2: blue}), 2))


def test_frame_0_is_a_quarter_as_wide_and_long_videos_are_folded_into_rows():
    assert draw_timeline(torch.ones(5)).width == GUTTER + CELL_WIDTH // 4 + GAP + 4 * (CELL_WIDTH + GAP)
    assert draw_timeline(torch.ones(101)).height == 15 * (RULER + CELL_HEIGHT + FEET)
    assert draw_timeline(torch.ones(101)).width == draw_timeline(torch.ones(8)).width


def test_a_video_of_one_frame_is_drawn():
    assert draw_timeline(torch.zeros(1)).height == RULER + CELL_HEIGHT + FEET
