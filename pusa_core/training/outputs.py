"""Options of what a training run writes: the result, checkpoints, curves and sample videos."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ..sampling.pipeline import parse_keyframe
from ..weights.load import LORA_STRENGTH
from .files import exists
from .options import NodeInput, check_values, option
from .sources import naming


class SampleTable(TypedDict, total=False):
    """A table of ``output.samples``; ``seed``: by default that of the training."""

    prompt: str
    keyframes: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class OutputOptions:
    folder: str = option("folder of the run")
    name: str = option("file name of the result, without .safetensors", default="pusa_lora")
    save_every: int = option("steps between checkpoints; 0: only at the end", default=100, ge=0, node=NodeInput(32))
    keep: int = option("number of newest checkpoints to keep", default=2, ge=1)
    validate_every: int = option("steps between validations; 0: none", default=0, ge=0, node=NodeInput(31))
    sample_every: int = option("steps between sample videos; 0: none", default=0, ge=0, node=NodeInput(33))
    sample_prompt: str = option("caption of the sample video", default="", node=NodeInput(34))
    sample_keyframes: tuple[str, ...] = option(
        'given frames of the sample video, ["POSITION=FILE[:NOISE]", ...]', default=()
    )
    samples: tuple[SampleTable, ...] = option(
        "several sample videos in place of one: [[output.samples]], each with prompt, keyframes and seed of its own",
        default=(),
    )
    sample_steps: int = option("sampling steps of the sample video", default=10, ge=1)
    sample_cfg: float = option("guidance scale of the sample video", default=1.0)
    lora_strength: float = option("strength of the LoRA in sample videos", default=LORA_STRENGTH)
    wandb: str = option(
        "project of Weights & Biases that gets the curves and sample videos as well; needs wandb",
        default="",
        node=NodeInput(49),
    )

    def __post_init__(self) -> None:
        if not self.folder:
            raise ValueError("output.folder is empty; name a folder for the run")
        if not self.name or Path(self.name).name != self.name:
            raise ValueError(f'output.name is "{self.name}"; use a file name without folders')
        check_values("output", self)
        if self.samples and (self.sample_prompt or self.sample_keyframes):
            raise ValueError(
                "output.samples and output.sample_prompt or output.sample_keyframes are both set; list all of them in "
                "output.samples"
            )
        for where, keyframe in self.keyframes():
            with naming(where):
                _, path, _ = parse_keyframe(keyframe)
                if not exists(path, Path.is_file):
                    raise FileNotFoundError(f"{where}: no such file: {path}")

    @property
    def all_samples(self) -> tuple[SampleTable, ...]:
        """The sample videos, one without a table of its own included."""
        return self.samples or ({"prompt": self.sample_prompt, "keyframes": self.sample_keyframes},)

    def keyframes(self) -> Iterator[tuple[str, str]]:
        """Every keyframe of the sample videos, behind the name of the option that has it."""
        for number, table in enumerate(self.all_samples):
            where = f"output.samples[{number}].keyframes" if self.samples else "output.sample_keyframes"
            yield from ((where, keyframe) for keyframe in table.get("keyframes", ()))
