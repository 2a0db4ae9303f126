"""Whether a run that is resumed is still the run that it was."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, asdict
from pathlib import Path
from typing import Any

from .config import Config, option_fields
from .resume import owned, read_info

FREE = {
    "data.cache",
    "data.allow_outside",
    "data.sources",  # what matters of it is in the hashes of its clips
    "train.device",
    "train.gradient_checkpointing",
    "train.offload_checkpoints",
    "train.offload_weights",
    "train.swap_blocks",
}
"""Options that do not affect the weights and may change on resume. So may all of [output]."""
ADJUSTABLE = {
    "model.base_dtype",
    "model.dtype",
    "processes",
    "train.accumulate",
    "train.attention",
    "train.batch",
    "train.clip",
    "train.compile",
    "train.cycles",
    "train.lr",
    "train.schedule",
    "train.steps",
    "train.warmup",
    "train.weight_decay",
}
"""What a step reads from the options alone. A resumed run may have others from then on."""
REASONS = {
    "model.checkpoint": "the trained weights belong to the other model",
    "model.low_noise_checkpoint": "the trained weights belong to the other model",
    "model": "the run has begun with the other one",
    "data": "the run would go on with other samples, and its curves would be of both",
    "data.validation": "clips that were trained on would be held out",
    "train": "the loss would be another one, and the curves would be of both",
    "train.mode": "the saved weights are others",
    "train.rank": "the saved weights have the other rank",
    "train.alpha": "the saved weights were trained at the other strength",
    "train.optimizer": "the saved state is the other one's",
    "train.optimizer_args": "the saved state was made with the others",
    "train.betas": "the saved moments were made with the others",
    "train.ema": "the saved average was made with the other decay",
    "train.seed": "clips and noise would be drawn anew, some of them twice",
    "train.switch_every": "the experts' own steps would be counted anew",
}
"""Why a resumed run may not have another value, by option, or else by section."""

Identity = Mapping[str, Mapping[str, Any]]


def run_identity(
    config: Config, contents: Mapping[str, str], processes: int, clips: Mapping[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """Everything that a resumed run is compared by.

    ``contents``: content hashes, by option, of options whose content matters rather than the path. ``clips``: a hash of
    each clip by its file name.
    """
    options = {f"{section}.{name}": value for section, part in asdict(config).items() for name, value in part.items()}
    kept = {
        name: {"value": value, "content": contents.get(name)}
        for name, value in options.items()
        if name not in FREE and not name.startswith("output.")
    }
    if clips is not None:
        kept["data.folder"]["clips"] = dict(clips)
    kept["processes"] = {"value": processes, "content": None}
    return json.loads(json.dumps(kept))  # tuples become lists, as in the file


def check_same(saved: Identity, now: Identity, folder: Path) -> list[str]:
    """The changes of a resumed run that are allowed, in words.

    Raises ``ValueError`` naming the first other option that differs from the run in ``folder``.
    """
    changes = []
    for name in now:
        old, new = saved.get(name, _default(name)), now[name]
        what = f"{name} was {old.get('value')!r}, now it is {new.get('value')!r}"
        if old.get("content") is not None:
            if old["content"] == new.get("content"):
                continue
            gone = _gone(old, new)
            if gone == []:
                changes.append(f"{name} holds {len(new['clips'])} clips, {len(old['clips'])} before")
                continue
            if old.get("value") == new.get("value"):
                what = f"the content of {name} ({old.get('value')}) has changed"
            if gone:
                what += f"; of the run's clips {len(gone)} are missing or have changed, such as {gone[0]}"
        elif old.get("value") == new.get("value"):
            continue
        elif name in ADJUSTABLE:
            if name in saved:
                changes.append(what)
            continue
        why = REASONS.get(name) or REASONS[name.partition(".")[0]]
        raise ValueError(
            f"cannot resume the run in {folder}: {what}, but {why}; set it back, or choose another output.folder for a "
            f"new run"
        )
    return changes


def check_options(config: Config, processes: int) -> None:
    """Raise as :func:`check_same` for options that differ from the run in ``output.folder``, without reading any of
    the files that they name."""
    folder = Path(config.output.folder)
    for path in reversed(owned(folder)):
        info = read_info(path)
        values = {name: entry for name, entry in info["identity"].items() if entry.get("content") is None}
        now = run_identity(config, {}, processes)
        check_same(values, {name: now[name] for name in now if name in values or name not in info["identity"]}, folder)
        return


def _default(name: str) -> dict[str, Any]:
    """What a run had for an option that did not exist when its checkpoint was written."""
    default = option_fields()[name].default if name in option_fields() else None
    return {"value": json.loads(json.dumps(default)) if default is not MISSING else None}


def _gone(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str] | None:
    """Names of the run's clips that are not there any more; None where it is not known which clips it had."""
    if "clips" not in old or "clips" not in new:
        return None
    left = Counter(new["clips"].values())
    gone = []
    for name, content in old["clips"].items():
        left[content] -= 1
        if left[content] < 0:
            gone.append(name)
    return gone
