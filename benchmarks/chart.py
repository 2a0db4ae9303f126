"""Log-log line charts, drawn with Pillow."""

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 460, 80, 50, 40, 170
COLORS = ("#000000", "#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b")

Lines = dict[str, list[tuple[float, float]]]


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within the range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [tick for power in powers for step in (1, 2, 5) if low <= (tick := step * 10.0**power) <= high]


def draw_chart(title: str, x_label: str, lines: Lines, names: Sequence[str]) -> Image.Image:
    """``lines``: points ``(x, y)`` by name, both above 0; ``names`` fixes the colours across charts."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    xs, ys = ([point[axis] for points in lines.values() for point in points] for axis in (0, 1))
    low, high = (min(xs) * 0.9, min(ys) * 0.8), (max(xs) * 1.1, max(ys) * 1.25)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log(x) - math.log(low[0])) / (math.log(high[0]) - math.log(low[0]))
        up = (math.log(y) - math.log(low[1])) / (math.log(high[1]) - math.log(low[1]))
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    for x in _ticks(low[0], high[0]):
        draw.line((place(x, low[1]), place(x, high[1])), fill="#e0e0e0")
        draw.text((place(x, low[1])[0], HEIGHT - BOTTOM + 6), f"{x:,.0f}", fill="black", font=font, anchor="ma")
    for y in _ticks(low[1], high[1]):
        draw.line((place(low[0], y), place(high[0], y)), fill="#e0e0e0")
        draw.text((LEFT - 6, place(low[0], y)[1]), f"{y:g}", fill="black", font=font, anchor="rm")
    for index, (name, points) in enumerate(lines.items()):
        color = COLORS[names.index(name) % len(COLORS)]
        draw.line([place(*point) for point in points], fill=color, width=2)
        for x, y in (place(*point) for point in points):
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=color)
        at = TOP + 20 * index
        draw.line((WIDTH - RIGHT + 12, at + 8, WIDTH - RIGHT + 34, at + 8), fill=color, width=3)
        draw.text((WIDTH - RIGHT + 40, at), name, fill="black", font=font)
    draw.text((LEFT, 12), title, fill="black", font=font)
    draw.text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 22), x_label, fill="black", font=font, anchor="ma")
    return image


def save_charts(charts: list[Image.Image], path: Path) -> None:
    """Stack the charts vertically and save them as one image."""
    whole = Image.new("RGB", (WIDTH, HEIGHT * len(charts)), "white")
    for index, chart in enumerate(charts):
        whole.paste(chart, (0, HEIGHT * index))
    whole.save(path, optimize=True)
