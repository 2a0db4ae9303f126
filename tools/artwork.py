"""Draws the pack's icon and banner for the registry: ``python -m tools.artwork``.

Both show the idea: a row of frames, the given ones in orange, the others fading into noise.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tools.comfyui import PACK

MEDIA = PACK / "docs" / "media"
PAPER, INK, GIVEN, MADE = (20, 23, 29), (230, 233, 239), (255, 150, 40), (120, 150, 200)
ICON, BANNER = (400, 400), (1680, 720)
ICON_LEVELS, BANNER_LEVELS = (0.0, 1.0, 1.0, 0.0), (0.0, 0.3, 0.6, 1.0, 1.0, 1.0, 0.6, 0.3, 0.0)


def draw_frames(
    picture: Image.Image, corner: tuple[int, int], size: tuple[int, int], levels: tuple[float, ...]
) -> None:
    """A row of frames in the box at ``corner``, each a blend of its colour and noise at its level."""
    noise = np.random.default_rng(0)
    width = size[0] // len(levels)
    side = width - width // 8
    for index, level in enumerate(levels):
        color = np.array(GIVEN if level == 0 else MADE, float)
        grain = noise.integers(30, 226, (8, 8, 1)).repeat(3, 2)
        pixels = (color * (1 - 0.6 * level) + grain * 0.6 * level).clip(0, 255).astype(np.uint8)
        frame = Image.fromarray(pixels).resize((side, size[1]), Image.Resampling.NEAREST)
        picture.paste(frame, (corner[0] + index * width + width // 16, corner[1]))


def icon() -> Image.Image:
    picture = Image.new("RGB", ICON, PAPER)
    draw_frames(picture, (30, 60), (340, 210), ICON_LEVELS)
    draw = ImageDraw.Draw(picture)
    draw.text((200, 330), "Pusa", fill=INK, font=ImageFont.load_default(72), anchor="mm")
    return picture


def banner() -> Image.Image:
    picture = Image.new("RGB", BANNER, PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((840, 150), "Pusa for ComfyUI", fill=INK, font=ImageFont.load_default(110), anchor="mm")
    draw.text((840, 600), "every frame its own noise level", fill=MADE, font=ImageFont.load_default(56), anchor="mm")
    draw_frames(picture, (140, 270), (1400, 220), BANNER_LEVELS)
    return picture


def main() -> None:
    MEDIA.mkdir(parents=True, exist_ok=True)
    icon().save(MEDIA / "icon.png", optimize=True)
    banner().save(MEDIA / "banner.png", optimize=True)


if __name__ == "__main__":
    main()
