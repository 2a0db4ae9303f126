"""Data preparation: from a folder of clips to cached latents and captions."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..media.demo_text import encode_text
from ..media.text_encoder import TextEncoder
from ..media.vae import Vae
from ..weights.demo_files import DEMO
from .cache import Cache, Encoders, Entry, context_name, entry_names, file_identity, fill, hash_of
from .clips import find_clips
from .config import Config
from .data import split
from .launch import Launch
from .report import Report, Silent

log = logging.getLogger(__name__)

LoadVae = Callable[..., Vae]
"""``load_vae(path, device=device)``, such as :func:`pusa_core.load_vae`."""
LoadText = Callable[..., TextEncoder]
"""``load_text_encoder(path, device=device)``, such as :func:`pusa_core.load_text_encoder`."""


class Skipped:
    """Collects and reports the clips that cannot be used."""

    def __init__(self, report: Report) -> None:
        self.reasons: dict[str, str] = {}
        self._report = report

    def __call__(self, file: str, reason: str) -> None:
        self.reasons[file] = reason
        self._report("skipped", file=file, reason=reason)


@dataclass(frozen=True)
class Data:
    """Training and validation clips, all cached."""

    cache: Cache
    train: list[Entry]
    held_out: list[Entry]
    no_caption: str
    sample_caption: str


class Preparation:
    """The clips of a run: discovered on construction, encoded by :meth:`encode`."""

    def __init__(
        self, config: Config, load_vae: LoadVae, load_text: LoadText, device: torch.device, report: Report
    ) -> None:
        self.config = config
        model = config.model
        demo = model.text_encoder == DEMO
        self.encoders = Encoders(
            load_vae=lambda: load_vae(model.vae, device=device),
            load_text=lambda: encode_text if demo else load_text(model.text_encoder, device=device),
            vae_identity=file_identity(Path(model.vae)),
            text_identity=DEMO if demo else file_identity(Path(model.text_encoder)),
        )
        self._report = report
        self._skip = Skipped(report)
        clips = find_clips(Path(config.data.folder), self._skip)
        self._entries = entry_names(clips, config.data, self.encoders, self._skip)
        self._check(self._entries)

    def contents(self) -> dict[str, str]:
        """Content hashes of the files that options name, by option."""
        model = self.config.model
        names = [(entry.content, entry.clip.caption, entry.size) for entry in self._entries]
        found = {
            "data.folder": hash_of(*names),
            "model.checkpoint": hash_of(*(file_identity(Path(path)) for path in model.checkpoint)),
            "model.vae": self.encoders.vae_identity,
            "model.text_encoder": self.encoders.text_identity,
        }
        return found | ({"model.init_lora": file_identity(Path(model.init_lora))} if model.init_lora else {})

    def encode(self, launch: Launch) -> Data:
        """Encode what is not cached, on rank 0; the other processes wait."""
        cache = Cache(self.config.data.cache_folder)
        caption = self.config.output.sample_prompt
        if launch.rank == 0:
            entries = self._fill(cache, ("", caption), self._report)
            log.info("%d clips are used, %d are skipped", len(entries), len(self._skip.reasons))
        launch.wait()
        if launch.rank:
            entries = self._fill(cache, ("", caption), Silent())
        self._check(entries)
        train, held_out = split(entries, self.config.data.validation)
        names = (context_name(text, self.encoders) for text in ("", caption))
        return Data(cache, train, held_out, *names)

    def _fill(self, cache: Cache, captions: Sequence[str], report: Report) -> list[Entry]:
        def progress(done: int, total: int) -> None:
            report("cache", done=done, total=total)

        return fill(cache, self._entries, self.config, self.encoders, self._skip, progress, captions)

    def _check(self, entries: Sequence[Entry]) -> None:
        if entries:
            return
        reasons = "; ".join(f"{file}: {reason}" for file, reason in list(self._skip.reasons.items())[:3])
        raise ValueError(
            f"data.folder {self.config.data.folder} holds no usable clip"
            + (f" ({len(self._skip.reasons)} skipped, such as {reasons})" if reasons else "")
            + "; put videos there, each with its caption in a .txt of the same name"
        )
