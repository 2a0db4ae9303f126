"""A picture of a video's latent frames: a strip of cells, as high as their noise, under a ruler in seconds.

The same strip as the editor of *Frame Conditioning Mask* (``web/js/drawing.js``), folded into rows.
"""

from collections.abc import Collection, Mapping

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from ..sampling.keyframes import STRIDE, pixel_frames_of
from ..sampling.schedule import range_of_frames

FPS = 16  # of Wan's videos
CELL_WIDTH, CELL_HEIGHT, GAP = 112, 128, 4  # of a cell; that of frame 0 is a quarter as wide, as are its frames
CELLS_PER_ROW = 7
GUTTER, RULER, FEET = 64, 34, 60
FONT_SIZE = 22
PAPER, TEXT, QUIET, LINE = (22, 24, 29), (242, 243, 245), (167, 173, 184), (255, 195, 107)
GENERATED, GIVEN, MISSING, HATCH = (39, 43, 51), (150, 92, 28), (140, 28, 28), (74, 80, 92)


def draw_timeline(
    levels: Tensor, missing: Collection[int] = (), pictures: Mapping[int, Image.Image] | None = None
) -> Image.Image:
    """The strip of noise levels ``[F]``, or ``[F, h, w]`` of tokens.

    A bar as high as its level, and a word or number, tell how a frame is made. Where levels vary within a frame, its
    cell shows them in place: hatched at 1, the picture at 0, and a mixture between.

    ``missing``: frames that are to be kept, but that nobody has given; they are hatched, and marked as such.
    ``pictures``: of given frames, shown in their cells.
    """
    frames = len(levels)
    rows = _rows(frames)
    width = GUTTER + min(CELLS_PER_ROW + 1, frames) * (CELL_WIDTH + GAP) - CELL_WIDTH * 3 // 4
    image = Image.new("RGB", (max(width, 240), len(rows) * (RULER + CELL_HEIGHT + FEET)), PAPER)
    strip = _Strip(image, levels, frozenset(missing), pictures or {})
    for row, members in enumerate(rows):
        strip.draw_row(row * (RULER + CELL_HEIGHT + FEET) + RULER, members)
    return image


def _state(level: float) -> str:
    return "new" if level == 1 else "kept" if level == 0 else f"{level:.2g}"


def _rows(frames: int) -> list[range]:
    """The frames of each row; the first row also has frame 0, which is narrow."""
    starts = [0, *range(CELLS_PER_ROW + 1, frames, CELLS_PER_ROW)]
    return [range(start, min(end, frames)) for start, end in zip(starts, [*starts[1:], frames], strict=True)]


class _Strip:
    def __init__(
        self, image: Image.Image, levels: Tensor, missing: frozenset[int], pictures: Mapping[int, Image.Image]
    ) -> None:
        self.image, self.levels, self.missing, self.pictures = image, levels, missing, pictures
        self.ranges = list(zip(*(ends.tolist() for ends in range_of_frames(levels)), strict=True))
        self.pen = ImageDraw.Draw(image)
        self.font = ImageFont.load_default(FONT_SIZE)

    def draw_row(self, top: int, members: range) -> None:
        for level in (1.0, 0.5, 0.0):
            y = top + CELL_HEIGHT * (1 - level)
            self.pen.text(
                (GUTTER - 12, min(max(y, top + 11), top + CELL_HEIGHT - 11)), f"{level:g}", QUIET, self.font, "rm"
            )
        left = GUTTER
        for frame in members:
            width = CELL_WIDTH // STRIDE if frame == 0 else CELL_WIDTH
            self._draw_cell(frame, (left, top, left + width - 1, top + CELL_HEIGHT - 1))
            self._draw_ruler(frame, left, top)
            left += width + GAP

    def _draw_ruler(self, frame: int, left: int, top: int) -> None:
        """A tick with its time where a half of a second begins within the frame."""
        for pixel in pixel_frames_of(frame):
            if pixel % (FPS // 2) == 0:
                x = left + (pixel - pixel_frames_of(frame)[0]) * CELL_WIDTH // STRIDE
                self.pen.line((x, top - 10, x, top - 2), fill=QUIET, width=2)
                self.pen.text((x + 6, top - 17), f"{pixel / FPS:g} s", QUIET, self.font, "lm")

    def _draw_cell(self, frame: int, box: tuple[int, int, int, int]) -> None:
        left, top, right, bottom = box
        low, level = self.ranges[frame]
        self.pen.rectangle(box, fill=GENERATED)
        if frame in self.pictures:
            size = (right - left + 1, bottom - top + 1)
            self.image.paste(ImageOps.fit(self.pictures[frame], size), (left, top))
        line = round(top + (bottom - top) * (1 - level))
        if frame in self.missing:
            self._hatch(box, MISSING)
        elif low < level:
            self._hatch(box, HATCH, self.levels[frame])
        elif level == 1:
            self._hatch(box, HATCH)
        else:
            bar = (left, line, right, bottom)
            tint = Image.new("RGB", (right - left + 1, bottom - line + 1), GIVEN)
            self.image.paste(Image.blend(self.image.crop((left, line, right + 1, bottom + 1)), tint, 0.6), bar[:2])
            self.pen.rectangle(
                (left, max(min(line, bottom - 5), top), right, max(min(line + 5, bottom), top + 5)), fill=LINE
            )
        self._label(frame, f"{low:.2g} - {level:.2g}" if low < level else _state(level), box)

    def _hatch(self, box: tuple[int, int, int, int], ink: tuple[int, int, int], opacity: Tensor | None = None) -> None:
        """``opacity [h, w]``: of parts of the cell, cropped as a picture of the frame is."""
        left, top, right, bottom = box
        cell = Image.new("RGB", (right - left + 1, bottom - top + 1), GENERATED)
        pen = ImageDraw.Draw(cell)
        for x in range(-cell.height, cell.width, 18):
            pen.line((x, cell.height, x + cell.height, 0), fill=ink, width=3)
        mask = None
        if opacity is not None:
            mask = Image.fromarray((opacity * 255).round().to(torch.uint8).numpy())
            mask = ImageOps.fit(mask, cell.size, Image.Resampling.NEAREST)
        self.image.paste(cell, (left, top), mask)

    def _label(self, frame: int, state: str, box: tuple[int, int, int, int]) -> None:
        left, top, right, bottom = box
        middle = (left + right) // 2
        state = "not given" if frame in self.missing else state
        if frame == 0:  # too narrow for words: they stand on end
            self._upright(state, box)
        else:
            self.pen.text(
                (middle, (top + bottom) // 2), state, TEXT, self.font, "mm", stroke_width=3, stroke_fill=PAPER
            )
        pixels = pixel_frames_of(frame)
        span = str(pixels[0]) if len(pixels) == 1 else f"{pixels[0]}-{pixels[-1]}"
        self.pen.text((middle, bottom + 16), str(frame), TEXT, self.font, "mm")
        self.pen.text((middle, bottom + 40), span, QUIET, self.font, "mm")

    def _upright(self, text: str, box: tuple[int, int, int, int]) -> None:
        left, top, right, bottom = box
        mask = Image.new("L", (bottom - top + 1, right - left + 1))
        ImageDraw.Draw(mask).text((mask.width // 2, mask.height // 2), text, 255, self.font, "mm")
        self.image.paste(TEXT, (left, top), mask.rotate(90, expand=True))
