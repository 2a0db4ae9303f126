"""Data preparation: from a folder of clips to cached latents and captions."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..media.demo_text import encode_text
from ..media.text_encoder import TextEncoder
from ..media.vae import Vae
from ..weights.demo_files import DEMO
from .cache import Cache, Encoders, Entry, context_name, entry_names, file_identity, fill, hash_of
from .clips import find_clips
from .config import Config
from .data import split
from .launch import Launch
from .report import Report
from .scan import KnownClips, rate_warning, scan

log = logging.getLogger(__name__)

SHORT = 16  # letters of a clip's hash in a checkpoint

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
    """The clips of a run: discovered on construction, encoded by :meth:`encode`.

    ``remember``: keep what was read of the clips' files in the cache folder.
    """

    def __init__(
        self,
        config: Config,
        load_vae: LoadVae,
        load_text: LoadText,
        launch: Launch,
        report: Report,
        remember: bool = True,
    ) -> None:
        self.config = config
        model, device = config.model, launch.device
        demo = model.text_encoder == DEMO
        self.encoders = Encoders(
            load_vae=lambda: load_vae(model.vae, device=device),
            load_text=lambda: encode_text if demo else load_text(model.text_encoder, device=device),
            vae_identity=file_identity(Path(model.vae)),
            text_identity=DEMO if demo else file_identity(Path(model.text_encoder)),
        )
        self._launch, self._report, self._remember = launch, report, remember
        self._skip = Skipped(report)
        self._entries = launch.first(self._find)

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
        if model.low_noise_checkpoint:
            identities = (file_identity(Path(path)) for path in model.low_noise_checkpoint)
            found["model.low_noise_checkpoint"] = hash_of(*identities)
        loras = {name: getattr(model, name) for name in ("init_lora", "low_noise_init_lora")}
        return found | {f"model.{name}": file_identity(Path(path)) for name, path in loras.items() if path}

    def clips(self) -> dict[str, str]:
        """A short hash of each clip's content, caption and size, by file name: what resuming has to find again."""
        folder, hashes = Path(self.config.data.folder), {}
        for entry in self._entries:
            path = entry.clip.path
            name = path.relative_to(folder) if path.is_relative_to(folder) else path
            hashes[str(name)] = hash_of(entry.content, entry.clip.caption, entry.size)[:SHORT]
        return hashes

    def encode(self, trained: Collection[str] = ()) -> Data:
        """Encode what is not cached, on rank 0; the other processes wait.

        ``trained``: content hashes of clips that the run was trained on before; they are not held out.
        """
        cache = self._launch.first(lambda: Cache(self.config.data.cache_folder))
        caption = self.config.output.sample_prompt
        entries = self._launch.first(lambda: self._fill(cache, ("", caption)))
        train, held_out = split(entries, self.config.data.validation, trained)
        names = (context_name(text, self.encoders) for text in ("", caption))
        return Data(cache, train, held_out, *names)

    def _find(self) -> list[Entry]:
        data = self.config.data

        def progress(done: int, total: int) -> None:
            self._report("scan", done=done, total=total)

        clips = find_clips(Path(data.folder), self._skip, data.allow_outside)
        known = KnownClips(data.cache_folder)
        facts = scan(clips, known, self._skip, progress)
        if self._remember:
            known.save()
        if data.fps == 0 and (text := rate_warning(facts)):
            log.warning("%s", text)
            self._report("warning", text=text)
        entries = entry_names(clips, data, self.encoders, self._skip, facts)
        self._check(entries)
        return entries

    def _fill(self, cache: Cache, captions: Sequence[str]) -> list[Entry]:
        def progress(done: int, total: int, texts: int, all_texts: int) -> None:
            counts = {"clips": done - texts, "clips_total": total - all_texts}
            self._report("cache", done=done, total=total, **counts, captions=texts, captions_total=all_texts)

        entries = fill(cache, self._entries, self.config, self.encoders, self._skip, progress, captions)
        log.info("%d clips are used, %d are skipped", len(entries), len(self._skip.reasons))
        self._check(entries)
        return entries

    def _check(self, entries: Sequence[Entry]) -> None:
        if entries:
            return
        reasons = "; ".join(f"{file}: {reason}" for file, reason in list(self._skip.reasons.items())[:3])
        raise ValueError(
            f"data.folder {self.config.data.folder} holds no usable clip"
            + (f" ({len(self._skip.reasons)} skipped, such as {reasons})" if reasons else "")
            + "; put videos there, each with its caption in a .txt of the same name"
        )
