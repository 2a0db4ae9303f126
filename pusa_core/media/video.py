"""Pictures and clips as tensors, MP4 files, contact sheets (PyAV, Pillow)."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from ..storage.atomic import write_whole
from .colours import BT709, LIMITED, ToYuv
from .decode import Shown, shown_frames, shown_size
from .sound import sound_of

MAX_FPS = 1000
_ENCODER = "h264"
MAX_SIDE = 16384  # pixels, of H.264


def read_frames(
    path: str | PathLike, size: tuple[int, int] | None = None, *, first: int | None = None, last: int | None = None
) -> Tensor:
    """Read a picture or clip as ``[T, H, W, 3]`` fp32 in 0..1, frame by frame; a picture has T = 1.

    Args:
        path: what PyAV or Pillow can read.
        size: width and height; each frame is scaled to cover them and centre-cropped as soon as it is read.
        first, last: read at most so many frames, from the start or from the end.

    Raises:
        FileNotFoundError: no such file.
        ValueError: neither a picture nor a clip.
    """
    frames = shown_frames(_existing(path))
    chosen: list[Shown] | deque[Shown] | islice[Shown] = islice(frames, first)
    if last is not None:
        chosen = deque(frames, maxlen=last)  # their pixels are not converted yet
    pixels = [frame.pixels(size) for frame in chosen]
    if not pixels:
        raise ValueError(f"{path} holds no video frame")
    if any(picture.shape != pixels[0].shape for picture in pixels):
        raise ValueError(f"{path} changes its size on the way; convert it to one size")
    return torch.from_numpy(np.stack(pixels)).float().div_(255)


def frame_size(path: str | PathLike) -> tuple[int, int]:
    """Displayed width and height of a picture or clip; errors as of :func:`read_frames`."""
    return shown_size(_existing(path))


def _existing(path: str | PathLike) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    return path


def resize_cover(frames: Tensor, width: int, height: int) -> Tensor:
    """Scale ``[T, H, W, 3]`` to cover ``width x height`` and centre-crop."""
    if frames.shape[1:3] == (height, width):
        return frames
    pictures = [
        ImageOps.fit(Image.fromarray(to_uint8(frame)), (width, height), Image.Resampling.LANCZOS) for frame in frames
    ]
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).float() / 255


def to_uint8(frames: Tensor) -> np.ndarray:
    """Values in 0..1 as bytes of the same shape."""
    return (frames.clamp(0, 1) * 255).round().byte().numpy()


def check_encoding(width: int, height: int, fps: int) -> None:
    """Raise ``ValueError`` unless :func:`write_video` can write such a video, ``ImportError`` without PyAV."""
    import av

    if not 1 <= fps <= MAX_FPS:
        raise ValueError(f"fps is {fps}; use 1 to {MAX_FPS}, such as 16")
    if width % 2 or height % 2 or not 2 <= min(width, height) <= max(width, height) <= MAX_SIDE:
        raise ValueError(f"an H.264 video cannot be {width} x {height}; both sides must be even, up to {MAX_SIDE}")
    if _ENCODER not in av.codecs_available:
        raise ValueError("PyAV comes without an H.264 encoder here; install it from PyPI: pip install av")


def write_video(frames: Tensor, path: str | PathLike, fps: int = 16, *, replace: bool = True) -> None:
    """Write frames ``[T, H, W, 3]`` in 0..1 as an H.264 MP4 (yuv420p, nearly lossless), atomically.

    The file names its colours: limited range, the matrix of BT.709 from 720 lines on and of BT.601 below, primaries and
    transfer of BT.709. ``replace``: whether a file that exists may be replaced.

    Raises:
        ValueError: frames, sizes or a rate of which no such video can be made.
        pusa_core.storage.atomic.SaveError: the file cannot be written.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise ValueError(f"frames have the shape {tuple(frames.shape)}; a video is made of [T, H, W, 3] with T > 0")
    height, width = frames.shape[1:3]
    write_pictures(map(to_uint8, frames), (width, height), path, fps, replace=replace)


def write_pictures(
    pictures: Iterable[np.ndarray],
    size: tuple[int, int],
    path: str | PathLike,
    fps: int,
    *,
    sound: Path | None = None,
    replace: bool = True,
    temporary_in: Path | None = None,
) -> None:
    """:func:`write_video` of pictures ``[H, W, 3]`` uint8 of ``size`` (width, height), one by one as they are made.

    ``sound``: a clip that the video begins with, whose sound it has. ``temporary_in`` as in
    :func:`pusa_core.storage.atomic.write_whole`. Errors that the pictures raise pass through.
    """
    check_encoding(*size, fps)
    write_whole(
        path,
        lambda temporary: _encode(pictures, size, temporary, fps, sound),
        replace=replace,
        temporary_in=temporary_in,
    )


def _encode(pictures: Iterable[np.ndarray], size: tuple[int, int], path: Path, fps: int, sound: Path | None) -> None:
    import av

    width, height = size
    to_yuv = ToYuv(height)
    try:
        with av.open(str(path), "w", format="mp4") as container:
            stream: Any = container.add_stream(_ENCODER, rate=fps)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            # the macroblock tree of x264 makes other bits of the same frames once in a while, also with one thread
            stream.options = {"crf": "12", "x264-params": "mbtree=0"}
            context = stream.codec_context
            context.colorspace, context.color_range = to_yuv.matrix, LIMITED
            context.color_primaries = context.color_trc = BT709
            with sound_of(sound, container) as write_sound_until:
                for number, picture in enumerate(pictures):
                    frame = to_yuv(picture)
                    frame.pts, frame.time_base = number, Fraction(1, fps)
                    write_sound_until((number + 1) / fps)
                    container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except av.FFmpegError as error:
        raise OSError(f"{error.strerror or error}") from error


def contact_sheet(frames: Tensor, count: int = 10, columns: int = 5, cell: int = 192) -> Image.Image:
    """A grid of evenly spaced frames of ``[T, H, W, 3]``, labelled with their numbers."""
    indices = [round(i * (len(frames) - 1) / max(count - 1, 1)) for i in range(min(count, len(frames)))]
    pictures = [Image.fromarray(to_uint8(frames[index])) for index in indices]
    return picture_grid(pictures, [f"frame {index}" for index in indices], columns, cell)


def picture_grid(
    pictures: Sequence[Image.Image], labels: Sequence[str], columns: int = 5, cell: int = 192
) -> Image.Image:
    """Pictures of one size, each at most ``cell`` pixels wide and high, with their labels."""
    width, height = pictures[0].size
    scale = cell / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    label = 16
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * (size[0] + 4) - 4, rows * (size[1] + label + 4) - 4), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (picture, text) in enumerate(zip(pictures, labels, strict=True)):
        x, y = place % columns * (size[0] + 4), place // columns * (size[1] + label + 4)
        sheet.paste(picture.resize(size, resample), (x, y + label))
        draw.text((x + 2, y + 2), text, fill="black")
    return sheet
