"""Generates ``docs/study.md`` from the stored results, including every sentence about them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.study import figures
from benchmarks.study.cells import FIRST_SCENE, Bench, Difference, Spread
from benchmarks.study.experiments import Comparison, Experiment, experiments
from benchmarks.study.looks import MODELS, Attention, attention, drift
from demo.training.machine import machine
from pusa_core.analysis.drift import by_component, relative_change
from pusa_core.analysis.pictures import draw_drift
from pusa_core.weights.demo_files import LORA_STRENGTH

NOTES = Path(__file__).with_name("notes.md")
HOLDS, OPPOSITE = "as in the paper", "the opposite"
KEPT, OPEN = "no measurable loss", "no significant difference at this scale"


def verdict(expected: str, seen: str) -> str:
    """Verdict on the paper's claim, given the observed direction."""
    if expected == "not lower":
        return OPPOSITE if seen == "lower" else KEPT
    return OPEN if not seen else HOLDS if seen == expected else OPPOSITE


def sentence(name: str, labels: tuple[str, str], spreads: tuple[Spread, Spread], seen: str) -> str:
    """The result for a measure, in words."""
    numbers = f"*{name}* is {spreads[0]} with {labels[0]} and {spreads[1]} with {labels[1]}"
    if not seen:
        return f"{numbers}: no significant difference."
    before, after = (abs(spread.mean) for spread in spreads)
    if not before or not after:
        return f"{numbers}: {seen}."
    return f"{numbers}: {seen}, by a factor of {max(before, after) / min(before, after):.2g}."


def notes() -> dict[str, str]:
    """Hand-written remarks: the paragraphs below ``## <key>`` in ``notes.md``."""
    parts = re.split(r"^## (\w+)\n", NOTES.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {key: text.strip() for key, text in zip(parts[1::2], parts[2::2], strict=True)}


class Report:
    """Collects the document's sections and the table of claims."""

    def __init__(self, bench: Bench, pictures: Path) -> None:
        self.bench = bench
        self.pictures = pictures
        self.notes = notes()
        self.claims: list[str] = []
        self.sections: list[str] = []

    def add(self, key: str, title: str, paper: str, body: list[str], seen: list[str]) -> None:
        lines = [f"## {title}", "", f"**The paper**: {paper}", "", *body, "", "**Result**:", ""]
        lines += [f"- {text}" for text in seen]
        if key in self.notes:
            lines += ["", self.notes[key]]
        self.sections.append("\n".join([*lines, ""]))

    def claim(self, title: str, comparison: Comparison, spreads: tuple[Spread, Spread], difference: Difference) -> str:
        """The sentence of a comparison; adds a row to the table of claims if the paper makes one."""
        labels = comparison.before, comparison.after
        if comparison.expected:
            self.claims.append(
                f"| {title} | {comparison.measure}: {labels[0]} → {labels[1]} | {comparison.expected} | "
                f"{spreads[0]} → {spreads[1]} | {verdict(comparison.expected, difference.direction)} |"
            )
        return sentence(comparison.measure, labels, spreads, difference.direction)

    def experiment(self, experiment: Experiment) -> None:
        bench, body = self.bench, []
        if experiment.axis:
            figures.lines(bench, experiment, self.pictures / f"{experiment.key}.png")
            body += [f"![{experiment.title}]({self.pictures.name}/{experiment.key}.png)", ""]
        if experiment.pictured:
            figures.clips(bench, experiment, self.pictures / f"{experiment.key}_clips.png")
            body += [f"![clips]({self.pictures.name}/{experiment.key}_clips.png)", ""]
        body += table(bench, experiment)
        body += ["", figures.explained(experiment.measures)]
        seen = []
        for each in experiment.comparisons:
            before, after = experiment.cells[each.before], experiment.cells[each.after]
            spreads = bench.spread(before, each.measure), bench.spread(after, each.measure)
            difference = bench.difference(before, after, each.measure)
            named = replace(each, before=experiment.named(each.before), after=experiment.named(each.after))
            seen.append(self.claim(experiment.title, named, spreads, difference))
        self.add(experiment.key, experiment.title, experiment.paper, body, seen)

    def attention(self) -> None:
        title, (before, after) = "Attention to the given frame before and after", MODELS
        by_model = {label: attention(self.bench, label) for label in MODELS}
        base, lora = by_model.values()
        averaged = attention(self.bench, after, "averaged first")
        figures.maps(by_model, averaged, self.pictures / "attention.png")
        rows = ["| model | " + " | ".join(f"step {step}" for step in base.steps) + " | all blocks and steps |"]
        rows.append("|" + "---|" * (len(base.steps) + 2))
        named = {**by_model, f"{after}, queries and keys averaged first": averaged}
        for label, each in named.items():
            cells = [over_clips(each.to_first[:, step, -1]) for step in range(len(each.steps))]
            rows.append(f"| {label} | " + " | ".join(map(str, [*cells, over_clips(each.to_first)])) + " |")
        body = [f"![{title}]({self.pictures.name}/attention.png)", "", *rows, ""]
        body.append(
            "Attention of frames 1 to 20 to frame 0, the given one, in the last block; mean and standard deviation "
            "over clips, not seeds. The exact maps sum the softmax over all keys. The last row averages the queries "
            f"and keys of a frame first, with a maximum error of {gap(lora, averaged):.3f}."
        )
        comparison = Comparison("attention to the given frame", before, after, "higher")
        spreads = over_clips(base.to_first), over_clips(lora.to_first)
        by_clip = (each.to_first.mean((1, 2))[None] for each in (base, lora))
        seen = [self.claim(title, comparison, spreads, Difference.of(*by_clip))]
        paper = (
            "Figure 4 compares the last block's maps at steps 0, 3, 6 and 9: the base's attention pattern is "
            "preserved, and frames attend more to the given one."
        )
        self.add("attention", title, paper, body, seen)

    def drift(self) -> None:
        changes = drift()
        name = f"demo LoRA at {LORA_STRENGTH:g}"
        draw_drift(changes, name, lora=True).save(self.pictures / "drift.png", optimize=True)
        moved = [(name, value) for name, value in by_component(changes) if value]
        groups = {
            group: relative_change([change for change in changes if change.component.startswith(group)])
            for group in ("self-attention", "cross-attention", "feed-forward")
        }
        first = max(groups, key=lambda group: groups[group])
        title = "Where the weights changed"
        body = [f"![{title}]({self.pictures.name}/drift.png)", "", "| component | relative change |", "|---|---|"]
        body += [f"| {name} | {value:.2%} |" for name, value in moved]
        numbers = ", ".join(f"{group} {value:.2%}" for group, value in groups.items())
        self.claims.append(
            f"| {title} | relative change | largest in self-attention | {numbers} | "
            f"{HOLDS if first == 'self-attention' else OPPOSITE} |"
        )
        paper = (
            "Figure 5 shows changes almost exclusively in self-attention. A LoRA only changes layers for which it has "
            "factors, so only their order can be compared."
        )
        self.add("drift", title, paper, body, [f"{numbers}; largest in {first}."])


def over_clips(values: np.ndarray) -> Spread:
    """Mean and standard deviation over the first axis."""
    return Spread.of(values.reshape(len(values), -1).mean(1))


def gap(exact: Attention, averaged: Attention) -> float:
    return float(np.abs(exact.clips - averaged.clips).max())


def table(bench: Bench, experiment: Experiment) -> list[str]:
    head = f"rank, {experiment.axis}" if experiment.grid else experiment.axis or "model"
    rows = [f"| {head} | " + " | ".join(experiment.measures) + " |", "|" + "---|" * (len(experiment.measures) + 1)]
    for label, cell in experiment.cells.items():
        rows.append(f"| {label} | " + " | ".join(str(bench.spread(cell, name)) for name in experiment.measures) + " |")
    real = (f"{bench.truth_of(name):.3f}" for name in experiment.measures)
    return [*rows, "| real clips through the VAE | " + " | ".join(real) + " |"]


def write(bench: Bench, out: Path, command: str) -> None:
    """Compute missing results, then write ``out`` and the figures, which go into a folder next to it."""
    pictures = out.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    report = Report(bench, pictures)
    for experiment in experiments(bench.plan):
        report.experiment(experiment)
    report.attention()
    report.drift()
    out.write_text("\n".join([*_head(bench, command), *report.claims, "", *report.sections]), encoding="utf-8")


def _head(bench: Bench, command: str) -> list[str]:
    plan = bench.plan
    return [
        "# The paper's tables, on the demo model",
        "",
        f"Written by `{command}` ({machine()}); {bench.store.seconds / 60:.0f} minutes of computing. Clips: scenes "
        f"{FIRST_SCENE} to {FIRST_SCENE + plan.clips - 1}, held out from training; noise seeds per clip: "
        f"{plan.seeds}. Values are means over clips, given as mean ± standard deviation over seeds. Unless stated "
        f"otherwise, the first frame is given, with {plan.sampling_steps} sampling steps, cfg 3, shift 5, and the LoRA "
        f"included with the demo model at strength {LORA_STRENGTH:g}. LoRAs trained by the study itself (training "
        f"steps, p_async, shift, rank and strength) have rank 32, {plan.usual_training} steps of 16 clips and the same "
        "strength unless stated otherwise.",
        "",
        "The demo model has 8 million parameters and generates one kind of clip (see [demo](../demo/README.md)); the "
        "paper's model has 14 billion. Results at one scale need not hold at the other. A difference, paired by clip, "
        "counts as significant if it is more than twice its error: the larger of its standard deviation over seeds and "
        "its standard error over clips.",
        "",
        "## Claims at a glance",
        "",
        "| topic | comparison | expected | result | |",
        "|---|---|---|---|---|",
    ]
