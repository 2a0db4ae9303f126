"""A plot of the loss, drawn with Pillow: ComfyUI has no plotting library."""

from collections.abc import Sequence
from statistics import fmean, quantiles

from PIL import Image, ImageDraw

Points = Sequence[tuple[int, float]]

SIZE, LEFT, TOP, RIGHT, BOTTOM = (960, 540), 80, 40, 20, 50
FAINT, LINE, HELD_OUT, AXIS, GRID = "#b9cdea", "#1f5fbf", "#d9541e", "#333333", "#e6e6e6"
TICKS = 5


def smoothed(points: Points, parts: int = 50) -> Points:
    """Running mean over a window of ``len(points) / parts``."""
    half = max(len(points) // parts // 2, 1)
    values = [value for _, value in points]
    return [(step, fmean(values[max(0, i - half) : i + half + 1])) for i, (step, _) in enumerate(points)]


def draw_losses(losses: Points, held_out: Points) -> Image.Image:
    """Loss per step (faint), its running mean, and the validation loss if there is one."""
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    if not losses:
        draw.text((LEFT, TOP), "no step yet", AXIS)
        return picture
    values = [value for _, value in losses]
    # outliers must not compress the rest of the curve
    high = max([quantiles(values, n=50)[-1] if len(values) > 1 else values[0], *(value for _, value in held_out)])
    low = min([*values, *(value for _, value in held_out)])
    margin = (high - low or abs(high) or 1) * 0.05
    low, high = low - margin, high + margin
    first, last = losses[0][0], max(losses[-1][0], losses[0][0] + 1)
    width, height = SIZE[0] - LEFT - RIGHT, SIZE[1] - TOP - BOTTOM

    def place(step: float, value: float) -> tuple[float, float]:
        return (
            LEFT + width * (step - first) / (last - first),
            TOP + height * (high - min(value, high)) / (high - low),
        )

    for tick in range(TICKS + 1):
        step, value = first + (last - first) * tick / TICKS, low + (high - low) * tick / TICKS
        x, y = place(step, value)
        draw.line([(LEFT, y), (SIZE[0] - RIGHT, y)], GRID)
        draw.text((8, y - 6), f"{value:.4g}", AXIS)
        draw.text((x - 10, SIZE[1] - BOTTOM + 10), f"{step:.0f}", AXIS)
    draw.rectangle([LEFT, TOP, SIZE[0] - RIGHT, SIZE[1] - BOTTOM], outline=AXIS)
    curves = [("loss of each step", losses, FAINT, 1), ("running mean", smoothed(losses), LINE, 2)]
    curves += [("validation", held_out, HELD_OUT, 2)] if held_out else []
    for index, (label, points, color, thick) in enumerate(curves):
        places = [place(*point) for point in points]
        draw.line(places, color, thick)
        for x, y in places if len(places) < 50 else ():
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=color)
        draw.text((LEFT + 160 * index, 14), label, color)
    draw.text((SIZE[0] - RIGHT - 30, SIZE[1] - 20), "step", AXIS)
    return picture
