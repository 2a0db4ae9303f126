"""Small videos, and what a training run is told about them."""

from pathlib import Path

import av
import numpy as np

from pusa_core.training.config import Config
from pusa_core.training.config_file import parse_config

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(width: int, height: int, *areas: tuple[slice, slice, tuple[int, int, int]]) -> np.ndarray:
    """``[H, W, 3]``, black but for ``(rows, columns, colour)``."""
    frame = np.zeros((height, width, 3), np.uint8)
    for rows, columns, colour in areas:
        frame[rows, columns] = colour
    return frame


def grey_frames(count: int, width: int = 32, height: int = 32, step: int = 8) -> list[np.ndarray]:
    """Frame ``i`` is grey of brightness ``step * i``, so that a frame tells its own number."""
    return [np.full((height, width, 3), step * i, np.uint8) for i in range(count)]


def write_clip(path: Path, frames: list[np.ndarray], fps: int = 16) -> Path:
    """Nearly lossless H.264; the container is that of the name's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=fps)
        stream.height, stream.width, _ = frames[0].shape
        stream.pix_fmt, stream.options = "yuv444p", {"crf": "1", "preset": "ultrafast"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def required_options(folder: Path) -> dict[str, str]:
    """The options that have no default, as flags; the weights are files without weights."""
    for name in ("dit", "vae"):
        (folder / f"{name}.safetensors").write_bytes(name.encode())
    (folder / "clips").mkdir(exist_ok=True)
    return {
        "model.checkpoint": str(folder / "dit.safetensors"),
        "model.vae": str(folder / "vae.safetensors"),
        "model.text_encoder": "demo",
        "data.folder": str(folder / "clips"),
        "output.folder": str(folder / "run"),
    }


def small_config(folder: Path, **options: object) -> Config:
    """Clips of 5 frames, 32 x 32; ``options`` such as ``data_fps=8``."""
    small = {"data.width": "32", "data.height": "32", "data.frames": "5"}
    flags = {name.replace("_", ".", 1): str(value) for name, value in options.items()}
    return parse_config({}, required_options(folder) | small | flags)
