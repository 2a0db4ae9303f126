"""Data preparation: from a folder of clips to cached latents and captions."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..media.demo_text import encode_text
from ..media.text_encoder import TextEncoder
from ..media.vae import Vae
from ..weights.demo_files import DEMO
from .cache import Cache, Encoders, Entry, context_name, entry_names, file_identity, hash_of
from .clips import Clip, find_clips
from .config import Config
from .data import split
from .encode import fill
from .launch import Launch
from .look import contact_sheet
from .report import Report
from .scan import Facts, KnownClips, at_other_rates, rate_warning, scan

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
    sample_captions: list[str]


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
        self._found = launch.first(self._find)

    def contents(self) -> dict[str, str]:
        """Content hashes of the files that options name, by option."""
        model = self.config.model
        found = {
            "data.folder": hash_of(*self._identities().values()),
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
        return {name: hash_of(*parts)[:SHORT] for name, parts in self._identities().items()}

    def _identities(self) -> dict[str, tuple[object, ...]]:
        """What makes a clip the clip that it was, by file name."""
        found: dict[str, tuple[object, ...]] = {}
        for number, (source, entries) in enumerate(zip(self.config.data.folders, self._found, strict=True)):
            own = self._own_options(number)
            for entry in entries:
                path, folder = entry.clip.path, Path(source.folder)
                name = path.relative_to(folder) if path.is_relative_to(folder) else path
                where = f"data.sources[{number}]: " if self.config.data.sources else ""
                found[f"{where}{name}"] = (entry.content, entry.clip.caption, entry.size, *own)
        return found

    def _own_options(self, number: int) -> list[tuple[str, object]]:
        """The options of a folder that decide what is trained on, beside those of ``[data]``."""
        table = self.config.data.sources[number] if self.config.data.sources else {}
        return sorted((name, value) for name, value in table.items() if name not in ("folder", "allow_outside"))

    def encode(self, trained: Collection[str] = ()) -> Data:
        """Encode what is not cached, on rank 0; the other processes wait.

        ``trained``: content hashes of clips that the run was trained on before; they are not held out.
        """
        cache = self._launch.first(lambda: Cache(self.config.data.cache_folder))
        captions = [table.get("prompt", "") for table in self.config.output.all_samples]
        entries = self._launch.first(lambda: self._fill(cache, ("", *captions)))
        train, held_out = split(entries, self.config.data.validation, trained)
        no_caption, *names = (context_name(text, self.encoders) for text in ("", *captions))
        return Data(cache, train, held_out, no_caption, names)

    def look(self) -> Image.Image:
        """A contact sheet of the excerpts; nothing is encoded."""
        entries = [entry for found in self._found for entry in found]
        _, held_out = split(entries, self.config.data.validation)
        return contact_sheet(entries, frozenset(held_out), self._skip)

    def _find(self) -> list[list[Entry]]:
        """The excerpts of the clips of each folder."""
        data = self.config.data

        def progress(done: int, total: int) -> None:
            self._report("scan", done=done, total=total)

        listed = [find_clips(Path(each.folder), self._skip, each.allow_outside) for each in data.folders]
        rates: dict[Path, set[float]] = defaultdict(set)
        for source, clips in zip(data.folders, listed, strict=True):
            for clip in clips:
                rates[clip.path].update(source.counted_rates)
        known = KnownClips(data.cache_folder)
        facts = scan([clip for clips in listed for clip in clips], known, self._skip, progress, rates)
        if self._remember:
            known.save()
        self._tell_rates(listed, facts)
        found = [
            entry_names(clips, source, self.encoders, self._skip, facts, source.repeats)
            for source, clips in zip(data.folders, listed, strict=True)
        ]
        self._check([entry for entries in found for entry in entries])
        return found

    def _tell_rates(self, listed: Sequence[Sequence[Clip]], facts: Mapping[Path, Facts]) -> None:
        """Say which clips are resampled, and warn of those that are not, but should be."""
        others: dict[float, dict[str, float]] = defaultdict(dict)
        for source, clips in zip(self.config.data.folders, listed, strict=True):
            own = {clip.path: facts[clip.path] for clip in clips if clip.path in facts}
            if source.fps:
                others[source.fps] |= at_other_rates(own, source.fps)
            elif text := rate_warning(own):
                log.warning("%s", text)
                self._report("warning", text=text)
        for fps, names in others.items():
            if names:
                name, rate = next(iter(names.items()))
                self._report("resampled", clips=len(names), fps=fps, file=name, rate=rate)

    def _fill(self, cache: Cache, captions: Sequence[str]) -> list[Entry]:
        def progress(done: int, total: int, texts: int, all_texts: int) -> None:
            counts = {"clips": done - texts, "clips_total": total - all_texts}
            self._report("cache", done=done, total=total, **counts, captions=texts, captions_total=all_texts)

        found = [entry for entries in self._found for entry in entries]
        entries = fill(cache, found, self.encoders, self._skip, progress, captions)
        self._check(entries)
        clips = len({entry.clip.path for entry in entries})
        log.info("%d clips are used, %d are skipped", clips, len(self._skip.reasons))
        for (width, height, frames), count in sorted(Counter(entry.bucket for entry in entries).items()):
            log.info("excerpts of %d x %d, %d frames: %d", width, height, frames, count)
        return entries

    def _check(self, entries: Sequence[Entry]) -> None:
        if entries:
            return
        reasons = "; ".join(f"{file}: {reason}" for file, reason in list(self._skip.reasons.items())[:3])
        raise ValueError(
            f"data.folder {', '.join(source.folder for source in self.config.data.folders)} holds no usable clip"
            + (f" ({len(self._skip.reasons)} skipped, such as {reasons})" if reasons else "")
            + "; put videos there, each with its caption in a .txt of the same name"
        )
