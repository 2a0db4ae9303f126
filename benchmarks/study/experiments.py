"""The experiments of the study: the paper's claims, the compared cells, and the measures."""

from dataclasses import dataclass, replace

from benchmarks.study.plan import Cell, Plan, Training
from pusa_core.weights.demo_files import LORA_STRENGTH

FOLLOWS = ("background", "position", "motion")
RANKS, STRENGTHS = (4, 16, 32), (0.7, 1.0, 1.4, 1.7)


@dataclass(frozen=True)
class Comparison:
    """Two cells, by label, whose difference in ``measure`` is reported.

    ``expected``: ``after`` relative to ``before`` if the paper's claim holds: "lower", "higher" or "not lower".
    """

    measure: str
    before: str
    after: str
    expected: str = ""


@dataclass(frozen=True)
class Experiment:
    """Cells by label, in order. ``paper``: the paper's claim. ``pictured``: cells whose clips are shown.

    ``axis``: the x axis of the plot; without it there is none. ``grid``: cell labels are ``line, value on the axis``.
    """

    key: str
    title: str
    paper: str
    cells: dict[str, Cell]
    measures: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    axis: str = ""
    pictured: tuple[str, ...] = ()
    grid: bool = False

    def named(self, label: str) -> str:
        """The name of a cell within a sentence."""
        line, _, place = label.rpartition(", ") if self.grid else ("", "", label)
        return f"rank {line}, {self.axis} {place}" if self.grid else f"{self.axis} {place}".strip()


def experiments(plan: Plan) -> list[Experiment]:
    """All experiments on generated clips."""
    usual = Training(plan.usual_training)
    demo = Cell("demo", LORA_STRENGTH, plan.sampling_steps)
    own = replace(demo, lora=usual)
    return [_follows(demo), _strength(plan, demo), *_training(plan, own), *_sampling(plan, demo), _text(demo)]


def _follows(demo: Cell) -> Experiment:
    base = replace(demo, lora=None, strength=1.0)
    cells = {
        "(a) base, frame put back before each step": replace(base, replaced=True),
        "(b) base, timestep 0 for the given frame": base,
        "(c) LoRA, strength 1": demo,
        "(c) LoRA, strength 1.4": replace(demo, strength=1.4),
    }
    labels = list(cells)
    return Experiment(
        "follows",
        "Following a given frame",
        "A text-to-video model becomes an image-to-video model with one timestep per frame and a short LoRA training; "
        "model and input are otherwise unchanged.",
        cells,
        (*FOLLOWS, "change", "jerk"),
        (
            *(Comparison(name, labels[1], labels[2], "lower") for name in FOLLOWS),
            *(Comparison(name, labels[2], labels[3]) for name in FOLLOWS),
        ),
        pictured=tuple(labels[:3]),
    )


def _strength(plan: Plan, demo: Cell) -> Experiment:
    cells = {
        f"{rank}, {strength:g}": replace(demo, lora=Training(plan.usual_training, rank), strength=strength)
        for rank in RANKS
        for strength in STRENGTHS
    }
    return Experiment(
        "strength",
        "Rank and strength of the LoRA",
        "Table 2 compares ranks and strengths; the final model has rank 512, the largest that was trained, and "
        "strength 1.4.",
        cells,
        ("background", "position", "change"),
        (
            Comparison("background", f"{RANKS[0]}, 1", f"{RANKS[-1]}, 1", "lower"),
            Comparison("background", f"{RANKS[-1]}, 1", f"{RANKS[-1]}, 1.4", "lower"),
            Comparison("background", f"{RANKS[-1]}, 1.4", f"{RANKS[-1]}, 1.7"),
            Comparison("change", f"{RANKS[-1]}, 0.7", f"{RANKS[-1]}, 1.7"),
        ),
        axis="strength",
        grid=True,
    )


def _training(plan: Plan, own: Cell) -> list[Experiment]:
    steps = {str(count): replace(own, lora=Training(count)) for count in plan.training_steps}
    usual = plan.usual_training
    share = {f"{p:g}": replace(own, lora=Training(usual, p_async=p)) for p in (0.0, 0.5, 1.0)}
    shift = {f"{s:g}": replace(own, lora=Training(usual, shift=s)) for s in (1.0, 5.0)}
    first, last = str(plan.training_steps[0]), str(plan.training_steps[-1])
    return [
        Experiment(
            "iterations",
            "Training steps",
            "Table 2 compares checkpoints from 150 to 1200 steps; 900 steps give the final model, 1200 are no better.",
            steps,
            (*FOLLOWS, "change"),
            (Comparison("background", first, last, "lower"), Comparison("background", str(usual), last)),
            axis="training steps",
        ),
        Experiment(
            "p_async",
            "Fraction of samples with per-frame timesteps (p_async)",
            "Training can mix samples with a shared timestep and samples with one timestep per frame; the released "
            "model was trained with the latter only, p_async 1.",
            share,
            (*FOLLOWS, "change"),
            (Comparison("background", "0", "1", "lower"), Comparison("background", "0.5", "1")),
            axis="p_async",
        ),
        Experiment(
            "shift",
            "Distribution of the training timesteps (shift)",
            "According to the text, timesteps are uniform (shift 1); the public training code uses shift 5, which "
            "favours high noise.",
            shift,
            (*FOLLOWS, "change"),
            (Comparison("background", "1", "5"), Comparison("motion", "1", "5")),
            axis="shift",
        ),
    ]


def _sampling(plan: Plan, demo: Cell) -> list[Experiment]:
    counts = {str(steps): replace(demo, steps=steps) for steps in plan.compared_steps}
    levels = {f"{level:g}": replace(demo, noise_level=level) for level in (0.0, 0.2, 0.4, 0.6, 0.8)}
    labels = list(counts)
    return [
        Experiment(
            "steps",
            "Sampling steps",
            "Table 2 compares 2, 5, 10 and 20 steps; the paper's results use 10.",
            counts,
            (*FOLLOWS, "change", "jerk"),
            (
                Comparison("background", labels[0], labels[2], "lower"),
                Comparison("position", labels[0], labels[2], "lower"),
                Comparison("background", labels[2], labels[3]),
                Comparison("position", labels[2], labels[3]),
            ),
            axis="sampling steps",
        ),
        Experiment(
            "noise",
            "Noise level of the given frame",
            "Some noise on the given frame, such as 0.2, lets it change and gives more motion.",
            levels,
            ("first", "background", "change", "jerk"),
            (
                Comparison("first", "0", "0.2", "higher"),
                Comparison("first", "0", "0.8", "higher"),
                Comparison("change", "0", "0.2", "higher"),
                Comparison("change", "0", "0.8", "higher"),
            ),
            axis="noise level of the given frame",
            pictured=("0", "0.4", "0.8"),
        ),
    ]


def _text(demo: Cell) -> Experiment:
    text = replace(demo, noise_level=None)
    cells = {
        "base": replace(text, lora=None, strength=1.0),
        "LoRA, strength 1": text,
        "LoRA, strength 1.4": replace(text, strength=1.4),
    }
    measures = ("colour", "shape", "direction")
    return Experiment(
        "text",
        "Text-to-video before and after",
        "The LoRA preserves the base's abilities: text-to-video works as before.",
        cells,
        (*measures, "change", "jerk"),
        tuple(Comparison(name, "base", "LoRA, strength 1", "not lower") for name in measures),
        pictured=("base", "LoRA, strength 1"),
    )
