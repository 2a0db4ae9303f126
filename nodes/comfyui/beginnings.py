"""What a long video begins with: a VIDEO, an IMAGE or a LATENT."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
from torch import Tensor

from ...pusa_core.film.film import Beginning
from ...pusa_core.media.clip import Clip
from ...pusa_core.media.video import to_uint8
from ...pusa_core.sampling.fit import fit_pictures


@dataclass(frozen=True)
class Frames:
    """Pixel frames ``images [T, H, W, 3]`` in 0..1 of a clip at ``rate`` frames per second, shown at ``fps``.

    Each shown frame is the one of the middle of its time, so the clip keeps its speed.
    """

    images: Tensor
    rate: float
    fps: int
    name: str

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or not self.images.numel() or self.images.shape[-1] < 3:
            raise ValueError(
                f"{self.name} has shape {list(self.images.shape)}; it must hold pictures, [frames, height, width, 3]"
            )

    @property
    def frames(self) -> int:
        return max(1, round(len(self.images) / self.rate * self.fps))

    def pictures(self, size: tuple[int, int]) -> Iterator[np.ndarray]:
        return (self._picture(number, size) for number in range(self.frames))

    def last(self, count: int, size: tuple[int, int]) -> np.ndarray:
        return np.stack([self._picture(number, size) for number in range(self.frames - count, self.frames)])

    def _picture(self, number: int, size: tuple[int, int]) -> np.ndarray:
        index = min(int((number + 0.5) / self.fps * self.rate), len(self.images) - 1)
        return to_uint8(fit_pictures(self.images[index : index + 1, ..., :3].float().cpu(), size)[0])


def read_video(video: Any, fps: int) -> tuple[Beginning, Path]:
    """A VIDEO as what a long video begins with, and the file that holds its sound.

    A whole file is read by the timestamps of its frames, again for every use. What other nodes have made or cut is in
    memory already, and its sound is written to a file in ComfyUI's temporary folder.
    """
    source = video.get_stream_source()
    window = getattr(video, "get_active_trim_window", lambda: (0.0, 0.0))()  # older versions cannot cut a VIDEO
    if isinstance(source, str) and window == (0.0, 0.0):
        path = Path(source)
        return Clip.open(path, fps), path
    parts = video.get_components()
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="pusa_sound_", suffix=".mp4", delete=False) as file:
        path = Path(file.name)
    video.save_to(str(path))
    return Frames(parts.images, float(parts.frame_rate), fps, "video"), path
