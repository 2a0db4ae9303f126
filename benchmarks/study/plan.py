"""The study's configuration: its size, its LoRAs, and its cells, each with one model and one set of options."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The size of a study; ``seeds``: number of noise seeds, all with the same clips."""

    clips: int
    seeds: int
    training_steps: tuple[int, ...]  # compared step counts; all other LoRAs are trained for the second to last
    training_clips: int
    sampling_steps: int
    compared_steps: tuple[int, ...]
    attention_clips: int

    @property
    def usual_training(self) -> int:
        return self.training_steps[-2]


FULL = Plan(10, 3, (50, 100, 200, 400), 400, 10, (2, 5, 10, 20), 4)
SMOKE = Plan(2, 1, (1, 2, 3, 4), 4, 2, (1, 2, 3, 4), 1)


@dataclass(frozen=True)
class Training:
    """A LoRA trained by the study on the demo model's base."""

    steps: int
    rank: int = 32
    p_async: float = 1.0
    shift: float = 5.0


@dataclass(frozen=True)
class Cell:
    """Clips generated with one model and one set of options.

    ``lora``: None for the base, "demo" for the LoRA included with the demo model. ``noise_level`` is that of the given
    first frame, None for text-to-video. ``replaced``: the given frame is put back before every step and all frames
    share one timestep, which is the only option without vectorised timesteps.
    """

    lora: Training | str | None
    strength: float = 1.0
    steps: int = 10
    noise_level: float | None = 0.0
    replaced: bool = False
