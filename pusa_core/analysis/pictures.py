"""Figures drawn with Pillow: grids of attention maps and bar charts."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .attention_map import AttentionMaps
from .drift import Change, by_block, by_component, most_changed

GAP, LINE = 10, 14  # pixels: gap between panels, line height
INK, QUIET, BAR = (20, 20, 20), (120, 120, 120), (70, 110, 180)
# dark blue, red, pale yellow, of monotonic lightness: readable in print and by the colour-blind
_COLORS = np.array([(10, 8, 40), (80, 20, 110), (160, 40, 100), (230, 90, 50), (250, 180, 40), (252, 252, 200)])
TITLE = "share of self-attention: query frame (row), key frame (column)"
GAMMA = 0.5  # of the colour scale: a frame attends to itself far more than to others


def colors_of(values: np.ndarray, top: float) -> np.ndarray:
    """Values in 0..``top`` -> RGB bytes, with a trailing axis of 3."""
    place = np.clip(values / top, 0, 1) ** GAMMA * (len(_COLORS) - 1)
    low = np.minimum(place.astype(int), len(_COLORS) - 2)
    part = (place - low)[..., None]
    return (_COLORS[low] * (1 - part) + _COLORS[low + 1] * part).round().astype(np.uint8)


def draw_attention_maps(maps: AttentionMaps, title: str = TITLE, top: float | None = None) -> Image.Image:
    """A grid of maps, a row per step and a column per block, on one colour scale.

    ``top``: upper end of the scale, by default the largest value; set it so that several figures share a scale.
    """
    grid = maps.maps.numpy()
    frames = grid.shape[-1]
    cell = max(3, 168 // frames)
    side, margin = cell * frames, 30
    top = float(grid.max()) if top is None else top
    size = (GAP + len(maps.blocks) * (margin + side + GAP) + 90, 2 * LINE + len(maps.steps) * (side + 3 * LINE + GAP))
    image = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default()
    draw.text((GAP, 2), title, INK, font)
    for row, step in enumerate(maps.steps):
        for column, block in enumerate(maps.blocks):
            x = GAP + column * (margin + side + GAP) + margin
            y = 2 * LINE + row * (side + 3 * LINE + GAP) + LINE
            picture = Image.fromarray(colors_of(grid[row, column], top))
            image.paste(picture.resize((side, side), Image.Resampling.NEAREST), (x, y))
            draw.text((x, y - LINE), f"step {step}, block {block}", INK, font)
            for frame in range(0, frames, max(1, (frames - 1) // 4)):
                place = frame * cell + cell / 2
                draw.text((x + place, y + side + 1), str(frame), QUIET, font, anchor="ma")
                draw.text((x - 4, y + place), str(frame), QUIET, font, anchor="rm")
    _draw_scale(image, draw, font, (size[0] - 80, 3 * LINE), side, top)
    return image


def _draw_scale(
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    corner: tuple[int, int],
    height: int,
    top: float,
) -> None:
    x, y = corner
    values = np.linspace(1, 0, height) ** (1 / GAMMA) * top
    bar = Image.fromarray(colors_of(values[:, None], top)).resize((16, height), Image.Resampling.NEAREST)
    image.paste(bar, (x, y))
    for share in (1, 0.5, 0.25, 0.05, 0):
        place = y + (1 - share**GAMMA) * (height - 1)
        draw.text((x + 20, place), f"{share * top:.3f}", QUIET, font, anchor="lm")


def draw_drift(changes: Sequence[Change], title: str, *, lora: bool) -> Image.Image:
    """Bar charts of the relative change by component, by block, and of the 20 parameters that changed most."""
    note = f"{title}. Relative change: Frobenius norm of the change over that of the weights, of a group together."
    if lora:
        note += " What a LoRA has no factors for, it cannot change: zeros there say nothing."
    panels = [
        ("by component", by_component(changes)),
        ("by block", by_block(changes)),
        ("most changed", most_changed(changes)),
    ]
    return draw_bars(panels, note)


def draw_bars(panels: Sequence[tuple[str, Sequence[tuple[str, float]]]], note: str) -> Image.Image:
    """Panels of horizontal bars side by side, values as percentages, with ``note`` below."""
    font = ImageFont.load_default()
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    bar, value = 150, 56
    label_widths = [max((int(measure.textlength(name, font)) for name, _ in bars), default=0) for _, bars in panels]
    notes = _wrapped(note, sum(label_widths) + len(panels) * (bar + value), measure, font)
    height = 2 * LINE + max(len(bars) for _, bars in panels) * LINE + GAP + len(notes) * LINE + GAP
    image = Image.new("RGB", (GAP + sum(width + bar + value + 2 * GAP for width in label_widths), height), "white")
    draw = ImageDraw.Draw(image)
    x = GAP
    for (title, bars), labels in zip(panels, label_widths, strict=True):
        top = max((number for _, number in bars), default=0) or 1
        draw.text((x, 4), title, INK, font)
        for index, (name, number) in enumerate(bars):
            y = 2 * LINE + index * LINE
            draw.text((x + labels, y), name, INK, font, anchor="ra")
            end = x + labels + 6 + round(bar * number / top)
            draw.rectangle((x + labels + 6, y + 2, end, y + LINE - 3), fill=BAR)
            draw.text((end + 4, y), f"{number:.2%}", QUIET, font)
        x += labels + bar + value + 2 * GAP
    for index, line in enumerate(notes):
        draw.text((GAP, height - GAP - (len(notes) - index) * LINE), line, QUIET, font)
    return image


def _wrapped(
    text: str, width: int, measure: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if measure.textlength(longer, font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
