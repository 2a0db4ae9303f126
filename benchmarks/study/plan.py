"""What the study runs: its LoRAs, and cells of clips made with one model and one set of options."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How much of everything; ``seeds`` are those of the noise, the clips are the same for each."""

    clips: int
    seeds: int
    training_steps: tuple[int, ...]  # of the comparison of iterations; the second to last is every other LoRA's
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
    """A LoRA that the study trains on the demo model's base."""

    steps: int
    rank: int = 32
    p_async: float = 1.0
    shift: float = 5.0


@dataclass(frozen=True)
class Cell:
    """Clips made with one model and one set of options.

    ``lora``: None for the base, "demo" for the LoRA that comes with the demo model. ``noise_level`` is that of the
    given first frame, None for text-to-video. ``replaced``: the given frame is put back before every step, and the
    timestep is one for all frames, which is what a model can do without vectorised timesteps.
    """

    lora: Training | str | None
    strength: float = 1.0
    steps: int = 10
    noise_level: float | None = 0.0
    replaced: bool = False
