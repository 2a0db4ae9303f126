"""What ``generate`` and ``decode`` write: an MP4 and its contact sheet, or the latents where they cannot be made."""

import argparse
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from ..media.vae import LATENT_CHANNELS, Vae
from ..media.video import MAX_FPS, contact_sheet, write_video
from ..storage.atomic import SaveError, write_whole
from ..storage.json_text import parse_json
from ..weights.files import read_file

log = logging.getLogger(__name__)

FPS = 16  # of Wan
_LATENTS, _ABOUT = "latents", "pusa"  # the tensor, and the metadata in JSON


@dataclass(frozen=True)
class VideoOutput:
    """The MP4 ``out``, the contact sheet beside it, and the latents while, or because, there is no video of them."""

    out: Path
    overwrite: bool = False
    fps: int = FPS

    def __post_init__(self) -> None:
        if self.out.suffix != ".mp4":
            raise ValueError(f'--out is "{self.out}"; it must end in .mp4')
        if not 1 <= self.fps <= MAX_FPS:
            raise ValueError(f"--fps is {self.fps}; use 1 to {MAX_FPS}, such as {FPS}")

    @property
    def sheet(self) -> Path:
        return self.out.with_suffix(".sheet.png")

    @property
    def latents(self) -> Path:
        return self.out.with_suffix(".latents.safetensors")

    def write(self, latents: Tensor, vae: Vae, about: Mapping[str, Any]) -> None:
        """Decode latents, and write the video and its contact sheet.

        Raises :class:`SaveError`, which names the file with the latents, where that fails in whatever way.
        """
        with self._kept(latents, about):
            self.write_frames(vae.decode(latents))

    def write_frames(self, frames: Tensor) -> None:
        write_video(frames, self.out, self.fps, replace=self.overwrite)
        write_whole(self.sheet, contact_sheet(frames).save, replace=self.overwrite)
        log.info("wrote %s and %s", self.out, self.sheet)

    @contextmanager
    def _kept(self, latents: Tensor, about: Mapping[str, Any]) -> Iterator[None]:
        """The latents are in a file meanwhile, which is deleted at the end unless there is an error."""
        file = self._save(latents, {**about, "fps": self.fps})
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:  # running out of memory is one of the likelier ends
            if file is None:
                raise
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            text = f"there is no video ({reason}); its latents are kept: python -m pusa_core decode {file} --out x.mp4"
            if isinstance(error, KeyboardInterrupt):
                log.error("%s", text)
                raise
            raise SaveError(text) from error
        if file is not None:
            file.unlink(missing_ok=True)

    def _save(self, latents: Tensor, about: Mapping[str, Any]) -> Path | None:
        """Beside the video, or else in the folder for temporary files."""
        elsewhere = Path(tempfile.gettempdir(), f"{self.latents.stem}.{os.getpid()}.safetensors")
        for file in (self.latents, elsewhere):
            try:
                save_latents(latents, file, about)
                return file
            except SaveError as error:
                log.warning("%s", error)
        return None


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the MP4 to write; a contact sheet .sheet.png is written beside it")
    add("--overwrite", action="store_true", help="replace existing output files")


def save_latents(latents: Tensor, path: Path, about: Mapping[str, Any]) -> None:
    """Write latents ``[1, 16, F, h, w]``, and what they are in the metadata. Raises :class:`SaveError`."""
    metadata = {"format": "pt", _ABOUT: json.dumps(about)}
    tensors = {_LATENTS: latents.detach().float().cpu().contiguous()}
    write_whole(path, lambda file: save_file(tensors, file, metadata))


def read_latents(path: Path) -> tuple[Tensor, dict[str, Any]]:
    """Latents ``[1, 16, F, h, w]`` that ``generate`` kept, and what they are.

    Raises ``FileNotFoundError``, or ``ValueError`` for another file.
    """
    tensors, metadata = read_file(path)
    latents = tensors.get(_LATENTS)
    if latents is None or latents.ndim != 5 or latents.shape[:2] != (1, LATENT_CHANNELS) or not latents.numel():
        raise ValueError(f"{path} holds no latents of a video; give a file .latents.safetensors of generate")
    try:
        about = dict(parse_json(metadata.get(_ABOUT, "{}")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: its metadata cannot be read ({error}); pick another file") from error
    return latents, about
