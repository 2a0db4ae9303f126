"""Pictures as they are shown: any mode and orientation that Pillow reads, as RGB."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, ImageSequence

PICTURES = frozenset(
    [
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jfif",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".tga",
        ".ppm",
        ".pgm",
        ".jp2",
        ".avif",
    ]
)
"""Suffixes of the files that are opened as pictures."""
# without those that start other programs, such as EPS
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "TIFF", "TGA", "PPM", "JPEG2000", "AVIF", "GIF")
ANIMATED = {"PNG", "WEBP", "GIF"}  # other formats hold several pictures of one subject, or pages

MAX_PIXELS = 1 << 27  # of one picture or frame; 400 MB as RGB
_STRAIGHT = {"La": "LA", "RGBa": "RGBA"}  # modes with premultiplied alpha, and those they convert to
_WIDE = 65535  # the largest value of 16 bits


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """A picture, of which only the header has been read.

    Raises ``ValueError`` where it, or what the caller decodes of it, cannot be read or is absurdly large.
    """
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is the one below
            with Image.open(path, formats=known) as picture:
                check_pixels(*picture.size)
                yield picture
    except Exception as error:  # Pillow's parsers raise anything; all of it means a file that is no picture
        raise ValueError(f"{path} cannot be read as a picture ({error})") from error


def check_pixels(width: int, height: int) -> None:
    """Raise ``ValueError`` for a picture that would fill the memory."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"it is {width} x {height}, more than {MAX_PIXELS >> 20} million pixels; scale it down")


def picture_size(path: Path) -> tuple[int, int]:
    """Displayed width and height, read from the header alone."""
    with open_picture(path) as picture:
        turned = picture.getexif().get(_ORIENTATION, 1) >= _FIRST_TURNED
        return (picture.height, picture.width) if turned else picture.size


_ORIENTATION, _FIRST_TURNED = 0x0112, 5  # EXIF: orientations 5 to 8 swap width and height


def is_still(path: Path) -> bool:
    """Whether a file is a picture, and not an animation; errors as of :func:`open_picture`."""
    if path.suffix.lower() not in PICTURES:
        return False
    with open_picture(path) as picture:
        return not _animated(picture)


def _animated(picture: Image.Image) -> bool:
    return picture.format in ANIMATED and getattr(picture, "is_animated", False)


def read_pictures(path: Path) -> Iterator[tuple[Image.Image, float]]:
    """The picture as RGB, and its time 0; of an animation, every frame and its time in seconds."""
    with open_picture(path) as picture:
        animated = _animated(picture)
        time = 0.0
        for frame in ImageSequence.Iterator(picture) if animated else [picture]:
            yield to_rgb(frame.copy() if animated else frame), time
            time += frame.info.get("duration", 0) / 1000


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode as RGB of 8 bits, upright. As in ComfyUI's *Load Image*, alpha is dropped."""
    if picture.getexif().get(_ORIENTATION, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    mode = picture.mode
    if mode == "F" or mode.startswith("I"):
        picture = Image.fromarray(_grey(np.asarray(picture)))
    elif mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB") or picture
    elif mode in _STRAIGHT:
        picture = picture.convert(_STRAIGHT[mode])
    picture.load()
    return picture if picture.mode == "RGB" else picture.convert("RGB")  # no second copy of a large picture


def _grey(values: np.ndarray) -> np.ndarray:
    """Grey values of 16 or 32 bits, or floats, as uint8.

    32-bit integers are Pillow's form of 16-bit files. Floats are in 0..1, or in 0..255 as Pillow converts them.
    """
    if values.dtype.kind == "f":
        values = np.nan_to_num(values)
        return (values * (255 if values.max() <= 1 else 1)).round().clip(0, 255).astype(np.uint8)
    table = (np.arange(_WIDE + 1) * (255 / _WIDE)).round().astype(np.uint8)
    return table[values if values.dtype.itemsize == 2 else values.clip(0, _WIDE)]
