"""What a long video is made of, as flags say it, and as the folder of its scenes keeps it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..media.clip import Clip
from ..sampling.extend import ANOTHER_TAKE, Take
from ..sampling.fit import whole_size
from ..sampling.plan import LONGEST, Span
from ..sampling.settings import Settings
from ..sampling.windows import Recipe
from ..weights.demo_files import NAMES
from ..weights.made_for_levels import MadeForLevels
from .options import LoraFile, ModelOptions, SamplingOptions

HERE = ("device", "dtype", "offload", "attention", "products")
"""Of the model options, those that say how this machine computes."""


@dataclass(frozen=True)
class Job:
    """A long video. ``clip``: what it begins with. ``seconds``: of the whole. ``fps``: of the model."""

    clip: str | None
    seconds: float | None
    fps: int
    prompts: tuple[Span, ...]
    negative: str
    sampling: SamplingOptions
    recipe: Recipe
    model: ModelOptions

    @property
    def inputs(self) -> list[str]:
        return [*([] if self.clip is None else [self.clip]), *self.model.paths]

    def frames(self, clip: Clip | None) -> int:
        """The length in pixel frames. Raises ``ValueError`` where that is none, or not longer than the clip."""
        if self.seconds is None or not 0 < self.seconds <= LONGEST:
            raise ValueError(f"--seconds is {self.seconds}; give the length of the whole video, such as --seconds 30")
        total = max(1, round(self.seconds * self.fps))
        if clip is not None and clip.frames >= total:
            raise ValueError(
                f"{clip.path} has {clip.frames / self.fps:g} s, and --seconds {self.seconds:g} is the length of the "
                f"whole video; give more seconds"
            )
        return total

    def settings(self, clip: Clip | None, family: MadeForLevels | None) -> Settings:
        """Size and sampling: without ``--size``, the clip's own size, cut to multiples of 16.

        ``family``: of the checkpoint, whose settings are the defaults.
        """
        own = self.model.default_size if clip is None else whole_size(*clip.size)
        return self.sampling.settings(self.sampling.size or own, family)

    def record(self) -> dict[str, Any]:
        """As JSON's types, with absolute paths."""
        record = asdict(replace(self, clip=_absolute(self.clip), model=_absolute_model(self.model)))
        for name in HERE:
            del record["model"][name]
        return record

    @classmethod
    def of_record(cls, record: Mapping[str, Any], here: ModelOptions) -> "Job":
        """The job of a :meth:`record`, computed as ``here`` says. Raises ``ValueError`` for another record."""
        kinds: dict[str, type] = {"sampling": SamplingOptions, "recipe": Recipe}
        try:
            parts = {name: kind(**_tuples(record[name])) for name, kind in kinds.items()}
            parts["model"] = ModelOptions(**_tuples(record["model"]), **{name: getattr(here, name) for name in HERE})
            rest = {field.name: _tuples(record[field.name]) for field in fields(cls) if field.name not in parts}
        except (KeyError, TypeError) as error:
            raise ValueError(f"what the scenes were made with cannot be read ({error!r}); give all options") from error
        return cls(**rest, **parts)

    def refuse_changes(self, given: "Job", default: "Job") -> None:
        """Raise ``ValueError`` where ``given`` says something else, seed and prompts aside."""
        own, now, unset = (_flat(each.record()) for each in (self, given, default))
        for name, value in now.items():
            if name not in ("sampling.seed", "prompts") and value not in (own[name], unset[name]):
                raise ValueError(
                    f"{name.rpartition('.')[2]} is {value}, but the scenes were made with {own[name]}; leave it out, "
                    f"or give the whole command without --retake"
                )

    def same_film(self, other: "Job") -> bool:
        """Whether takes chosen for the one are meant for the other: they differ in prompts and length at most."""
        return replace(self, prompts=(), seconds=None).record() == replace(other, prompts=(), seconds=None).record()


def read_takes(index: Mapping[str, Any]) -> dict[int, Take]:
    return {int(number): Take(**take) for number, take in index.get("takes", {}).items()}


def retaken(takes: Mapping[int, Take], number: int, planned_seed: int, seed: int | None, prompt: str | None) -> Take:
    """Another take of a scene: of another seed where none is given, and by the prompt that it had."""
    before = takes.get(number, Take())
    if seed is None:
        seed = (planned_seed if before.seed is None else before.seed) + (ANOTHER_TAKE if prompt is None else 0)
    return Take(seed, before.prompt if prompt is None else prompt)


def _absolute(path: str | None) -> str | None:
    return path if path in (None, *NAMES) else str(Path(path).resolve())


def _absolute_model(model: ModelOptions) -> ModelOptions:
    return replace(
        model,
        checkpoint=_absolute(model.checkpoint),
        checkpoint_low=_absolute(model.checkpoint_low),
        vae=_absolute(model.vae),
        text_encoder=_absolute(model.text_encoder),
        lora=_absolute_loras(model.lora),
        lora_low=_absolute_loras(model.lora_low),
    )


def _absolute_loras(loras: tuple[LoraFile, ...] | None) -> tuple[LoraFile, ...] | None:
    return None if loras is None else tuple((_absolute(file) or file, strength) for file, strength in loras)


def _tuples(value: Any) -> Any:
    """Lists of JSON as tuples, at every depth."""
    if isinstance(value, Mapping):
        return {name: _tuples(each) for name, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        flat |= {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat
