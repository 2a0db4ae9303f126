"""A contact sheet of what will be trained: every excerpt with its caption, size, length and place in its clip."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

from ..media.video import to_uint8
from .cache import Entry
from .clips import Skip
from .excerpts import read_excerpts

ROWS = 60  # excerpts shown, evenly over all of them
PICTURES = 5  # of an excerpt
WIDE, HIGH, GAP = 144, 104, 4  # pixels: the most that a picture has
TEXT_WIDTH, LETTERS, LINE = 560, 84, 16
BACKGROUND, INK, FAINT, HELD_OUT = "white", "#222222", "#777777", "#b3261e"
FONTS = ("NotoSansCJK-Regular.ttc", "msyh.ttc", "PingFang.ttc", "Arial Unicode.ttf", "arial.ttf", "DejaVuSans.ttf")
"""The first that the system has; Pillow's own font knows little more than English."""


def contact_sheet(entries: Sequence[Entry], held_out: Set[Entry], skip: Skip) -> Image.Image:
    """Draw the excerpts; only those that are shown are read. A clip that cannot be decoded is reported to ``skip``."""
    chosen = entries
    if len(entries) > ROWS:
        chosen = [entries[round(row * (len(entries) - 1) / (ROWS - 1))] for row in range(ROWS)]
    shown = [(entry, pictures) for entry in chosen if (pictures := _pictures(entry, skip))]
    head = list(_summary(entries, held_out, len(shown)))
    left, row_height = PICTURES * (WIDE + GAP), HIGH + GAP
    sheet = Image.new("RGB", (left + TEXT_WIDTH, LINE * (len(head) + 1) + row_height * len(shown)), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), _font(13)
    for number, line in enumerate(head):
        draw.text((GAP, GAP + number * LINE), line, INK, font)
    for row, (entry, pictures) in enumerate(shown):
        top = LINE * (len(head) + 1) + row * row_height
        for place, picture in enumerate(pictures):
            sheet.paste(picture, (place * (WIDE + GAP), top))
        draw.text((left + GAP, top), _about(entry), HELD_OUT if entry in held_out else INK, font)
        if entry in held_out:
            draw.text((left + TEXT_WIDTH - GAP, top), "validation", HELD_OUT, font, anchor="ra")
        draw.text((left + GAP, top + LINE), _shape(entry), FAINT, font)
        for number, line in enumerate(wrap(entry.clip.caption, LETTERS)[: HIGH // LINE - 2], 2):
            draw.text((left + GAP, top + number * LINE), line, INK, font)
    return sheet


def _summary(entries: Sequence[Entry], held_out: Set[Entry], shown: int) -> Iterator[str]:
    clips = {entry.clip.path for entry in entries}
    validation = len({entry.clip.path for entry in held_out})
    yield f"{len(entries)} excerpts of {len(clips)} clips, {validation} of them for validation"
    epoch = Counter({entry.bucket: 0 for entry in entries})
    for entry in entries:
        epoch[entry.bucket] += 0 if entry in held_out else entry.repeats
    for (width, height, frames), count in sorted(epoch.items()):
        yield f"{width} x {height}, {frames} frames: {count} in an epoch"
    if shown < len(entries):
        yield f"{shown} of them are shown"


def _about(entry: Entry) -> str:
    return entry.clip.path.name if entry.repeats == 1 else f"{entry.clip.path.name}, {entry.repeats} times an epoch"


def _shape(entry: Entry) -> str:
    excerpt, (width, height) = entry.excerpt, entry.size
    if excerpt.frames == 1:
        return f"picture, {width} x {height}"
    span = f"frames {excerpt.start} to {excerpt.stop - 1}"
    if excerpt.fps:
        span += f", {excerpt.start / excerpt.fps:.4g} to {excerpt.stop / excerpt.fps:.4g} s"
    return f"{excerpt.frames} frames of {width} x {height}: {span}"


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    for name in FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def _pictures(entry: Entry, skip: Skip) -> list[Image.Image]:
    """Evenly spaced frames as they are trained on, scaled down."""
    try:
        pixels = next(read_excerpts(entry.clip.path, entry.size, [entry.excerpt]))
    except ValueError as error:
        skip(entry.clip.path.name, str(error))
        return []
    last, count = len(pixels) - 1, min(PICTURES, len(pixels))
    indices = [round(place * last / max(count - 1, 1)) for place in range(count)]
    pictures = [Image.fromarray(to_uint8(pixels[index])) for index in indices]
    for picture in pictures:
        picture.thumbnail((WIDE, HIGH))
    return pictures
