"""Reading images and videos, writing videos and contact sheets (PyAV, Pillow)."""

import math
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError
from torch import Tensor

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


def read_frames(path: str | PathLike) -> Tensor:
    """Read an image or video as ``[T, H, W, 3]`` fp32 in 0..1; an image has T = 1.

    Raises:
        FileNotFoundError: no such file.
        ValueError: neither an image nor a video.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    frames = [_read_picture(path)] if path.suffix.lower() in PICTURES else _read_clip(path)
    return torch.from_numpy(np.stack(frames)).float() / 255


def _read_picture(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error})") from error


def _read_clip(path: Path) -> list[np.ndarray]:
    import av

    try:
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} cannot be read as a video ({error})") from error
    if not frames:
        raise ValueError(f"{path} holds no video frame")
    return frames


def resize_cover(frames: Tensor, width: int, height: int) -> Tensor:
    """Scale ``[T, H, W, 3]`` to cover ``width x height`` and centre-crop."""
    if frames.shape[1:3] == (height, width):
        return frames
    pictures = [
        ImageOps.fit(Image.fromarray(to_uint8(frame)), (width, height), Image.Resampling.LANCZOS) for frame in frames
    ]
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).float() / 255


def to_uint8(frames: Tensor) -> np.ndarray:
    return (frames.clamp(0, 1) * 255).round().byte().numpy()


def write_video(frames: Tensor, path: str | PathLike, fps: int = 16) -> None:
    """Write frames ``[T, H, W, 3]`` in 0..1 as an H.264 MP4 (yuv420p, nearly lossless)."""
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=fps)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.options = {"crf": "12"}
        for picture in to_uint8(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def contact_sheet(frames: Tensor, count: int = 10, columns: int = 5, cell: int = 192) -> Image.Image:
    """A grid of evenly spaced frames of ``[T, H, W, 3]``, labelled with their numbers."""
    indices = [round(i * (len(frames) - 1) / max(count - 1, 1)) for i in range(min(count, len(frames)))]
    scale = cell / max(frames.shape[1:3])
    size = (max(1, round(frames.shape[2] * scale)), max(1, round(frames.shape[1] * scale)))
    resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    label = 16
    columns = min(columns, len(indices))
    rows = math.ceil(len(indices) / columns)
    sheet = Image.new("RGB", (columns * (size[0] + 4) - 4, rows * (size[1] + label + 4) - 4), "white")
    draw = ImageDraw.Draw(sheet)
    for place, index in enumerate(indices):
        x, y = place % columns * (size[0] + 4), place // columns * (size[1] + label + 4)
        sheet.paste(Image.fromarray(to_uint8(frames[index])).resize(size, resample), (x, y + label))
        draw.text((x + 2, y + 2), f"frame {index}", fill="black")
    return sheet
