"""A picture of a video's latent frames: their noise levels, and the pixel frames they cover."""

from collections.abc import Collection

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..sampling.keyframes import pixel_frames_of

CELL_WIDTH, CELL_HEIGHT, GAP = 56, 64, 4
CELLS_PER_ROW = 7
BACKGROUND, TEXT, QUIET = (24, 26, 30), (245, 245, 245), (150, 155, 165)
GENERATED, GIVEN, MISSING = (52, 56, 64), (222, 140, 40), (178, 34, 34)


def draw_timeline(levels: Tensor, missing: Collection[int] = ()) -> Image.Image:
    """One cell per noise level ``[F]``: orange for a frame that is kept, grey for one that is generated.

    Red for ``missing``: frames that are to be kept, but that nobody has given.
    """
    frames = len(levels)
    columns, rows = min(frames, CELLS_PER_ROW), -(-frames // CELLS_PER_ROW)
    size = (columns * (CELL_WIDTH + GAP) + GAP, rows * (CELL_HEIGHT + GAP) + GAP)
    image = Image.new("RGB", size, BACKGROUND)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default()
    for frame, level in enumerate(levels.tolist()):
        row, column = divmod(frame, CELLS_PER_ROW)
        left, top = GAP + column * (CELL_WIDTH + GAP), GAP + row * (CELL_HEIGHT + GAP)
        _draw_cell(draw, font, (left, top), frame, level, frame in missing)
    return image


def _draw_cell(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    corner: tuple[int, int],
    frame: int,
    level: float,
    missing: bool,
) -> None:
    left, top = corner
    mixed = tuple(round(given + (new - given) * level) for given, new in zip(GIVEN, GENERATED, strict=True))
    color = MISSING if missing else mixed
    state = "new" if level == 1 else "kept" if level == 0 else f"{level:.2f}"
    draw.rounded_rectangle((left, top, left + CELL_WIDTH, top + CELL_HEIGHT), radius=6, fill=color)
    pixels = pixel_frames_of(frame)
    span = str(pixels[0]) if len(pixels) == 1 else f"{pixels[0]}-{pixels[-1]}"
    lines = (
        (f"{frame}", 6, TEXT),
        ("not given" if missing else state, 24, TEXT),
        (span, 44, QUIET if level == 1 else TEXT),
    )
    for text, offset, ink in lines:
        width = draw.textlength(text, font=font)
        draw.text((left + (CELL_WIDTH - width) / 2, top + offset), text, font=font, fill=ink)
