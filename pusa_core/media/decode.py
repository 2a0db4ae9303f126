"""Pictures and clips, frame by frame, as players show them: turned, mirrored, with square pixels, in true colours."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from .colours import ToRgb
from .pictures import PICTURES, check_pixels, picture_size, read_pictures

if TYPE_CHECKING:
    import av

DECODING = "2"
"""Of what this file makes of a clip; part of the keys of what is cached."""

VIDEOS = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".gif",
        ".webp",
        ".ts",
        ".m2ts",
        ".mts",
        ".mpg",
        ".mpeg",
        ".vob",
        ".wmv",
        ".asf",
        ".flv",
        ".3gp",
        ".ogv",
        ".mxf",
    ]
)
"""Suffixes of the files that a folder of clips is searched for."""
# FFmpeg's demuxers, without those that open other files or addresses
_CONTAINERS = "mov,matroska,avi,gif,mpegts,mpeg,mpegvideo,asf,flv,ogg,mxf,ivf,obu,h264,hevc"
_ATTACHED_PICTURE, _DEFAULT = 1 << 10, 1  # AV_DISPOSITION
Orientation = tuple[Image.Transpose | None, bool]  # how stored pictures are turned, and whether that swaps the sides


@dataclass(frozen=True)
class Shown:
    """A frame: its displayed width and height, its time in seconds, and its picture (RGB) once it is asked for."""

    size: tuple[int, int]
    time: float | None
    picture: Callable[[], Image.Image]

    def pixels(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """``[H, W, 3]`` uint8; scaled to cover ``size`` (width, height) and centre-cropped where that is given."""
        picture = self.picture()
        if size is not None and size != self.size:
            picture = ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
        return np.array(picture)


def shown_frames(path: Path) -> Iterator[Shown]:
    """The frames of a picture or clip. Raises ``ValueError`` where it cannot be read, or is absurdly large."""
    if path.suffix.lower() in PICTURES:
        for picture, time in read_pictures(path):
            yield Shown(picture.size, time, partial(_given, picture))
    else:
        yield from _decode(path)


def _given(picture: Image.Image) -> Image.Image:
    return picture


def shown_size(path: Path) -> tuple[int, int]:
    """Displayed width and height of a picture or clip; errors as of :func:`shown_frames`."""
    if path.suffix.lower() in PICTURES:
        return picture_size(path)
    for frame in shown_frames(path):
        return frame.size
    raise ValueError(f"{path} holds no video frame")


def shown_rate(path: Path) -> float:
    """Frames per second that a clip says of itself; 0 where it does not. Errors as of :func:`shown_frames`."""
    if path.suffix.lower() in PICTURES:
        return 0.0
    with _opened(path) as (_, stream):
        return float(stream.average_rate or 0)


def open_container(path: Path) -> "av.container.InputContainer":
    """The container of a clip, by FFmpeg's demuxers for videos alone."""
    import av

    # a whole path, so that no name is taken for an address
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    return av.open(str(path.resolve()), options=options)


@contextmanager
def _opened(path: Path) -> "Iterator[tuple[av.container.InputContainer, av.VideoStream]]":
    import av

    try:
        with open_container(path) as container:
            stream = main_stream(container)
            stream.thread_type = "AUTO"
            check_pixels(stream.width, stream.height)
            yield container, stream
    except (av.FFmpegError, ValueError, LookupError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a video ({error})") from error


def _decode(path: Path) -> Iterator[Shown]:
    with _opened(path) as (container, stream):
        frames = container.decode(stream)
        if (first := next(frames, None)) is None:
            return
        to_rgb, aspect = ToRgb(), stream.sample_aspect_ratio or Fraction(1)
        # asked once: a frame whose side data was asked for stays in memory until the garbage collector runs
        orientation = _orientation(first)
        for frame in chain([first], frames):
            yield _shown(frame, aspect, orientation, to_rgb)


def main_stream(container: "av.container.InputContainer") -> "av.VideoStream":
    """The video, not a cover picture; of several, the default track."""
    streams = [stream for stream in container.streams.video if not stream.disposition.value & _ATTACHED_PICTURE]
    if not streams:
        raise ValueError("it holds no video")
    return next((stream for stream in streams if stream.disposition.value & _DEFAULT), streams[0])


def _shown(frame: "av.VideoFrame", aspect: Fraction, orientation: Orientation, to_rgb: ToRgb) -> Shown:
    width, height = max(1, round(frame.width * aspect)), frame.height
    check_pixels(width, height)
    orient, turned = orientation

    def picture() -> Image.Image:
        stored = Image.fromarray(to_rgb(frame))
        if width != frame.width:
            stored = stored.resize((width, height), Image.Resampling.LANCZOS)
        return stored if orient is None else stored.transpose(orient)

    return Shown((height, width) if turned else (width, height), frame.time, picture)


def _orientation(frame: "av.VideoFrame") -> Orientation:
    """How the display matrix turns and mirrors a frame, and whether it swaps the sides.

    The matrix maps stored (x, y) to displayed ``(a x + c y, b x + d y)``; other angles than right ones are rounded.
    """
    side_data: Any = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return None, False
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
    turned = abs(b) + abs(c) > abs(a) + abs(d)
    return _TRANSPOSES[(turned, b < 0, c < 0) if turned else (turned, a < 0, d < 0)], turned


_TRANSPOSES = {
    (False, False, False): None,
    (False, True, False): Image.Transpose.FLIP_LEFT_RIGHT,
    (False, False, True): Image.Transpose.FLIP_TOP_BOTTOM,
    (False, True, True): Image.Transpose.ROTATE_180,
    (True, False, False): Image.Transpose.TRANSPOSE,
    (True, False, True): Image.Transpose.ROTATE_270,  # Pillow counts against the clock
    (True, True, False): Image.Transpose.ROTATE_90,
    (True, True, True): Image.Transpose.TRANSVERSE,
}
