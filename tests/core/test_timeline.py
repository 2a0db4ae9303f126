"""The picture of the noise levels."""

import torch

from pusa_core.analysis.timeline import CELL_HEIGHT, CELL_WIDTH, GAP, GENERATED, GIVEN, MISSING, draw_timeline


def test_cells_are_coloured_by_level_and_a_kept_frame_that_nobody_gave_is_red():
    picture = draw_timeline(torch.tensor([0.0, 0.0, 1.0]), {1})
    below_the_text = GAP + CELL_HEIGHT - 3
    cells = [picture.getpixel((GAP + 10 + frame * (CELL_WIDTH + GAP), below_the_text)) for frame in range(3)]
    assert cells == [GIVEN, MISSING, GENERATED]
    assert MISSING[0] > 2 * max(MISSING[1:]) and MISSING != GIVEN


def test_long_videos_are_folded_into_rows():
    assert draw_timeline(torch.ones(41)).height > 1.9 * draw_timeline(torch.ones(21)).height
