"""The study's figures: line plots (matplotlib), clips and attention maps side by side (Pillow)."""

from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from benchmarks.study.cells import Bench
from benchmarks.study.experiments import Experiment
from benchmarks.study.looks import MODELS, Attention
from benchmarks.study.measures import MEASURES
from pusa_core.analysis.pictures import draw_attention_maps

matplotlib.use("Agg")  # no display needed

from matplotlib import pyplot

LABEL, GAP = 16, 3  # pixels: height of a text line, gap between frames


def lines(bench: Bench, experiment: Experiment, path: Path) -> None:
    """One panel per measure: mean and standard deviation over seeds along the axis; dashed: the real clips."""
    count = len(experiment.measures)
    figure, panels = pyplot.subplots(1, count, figsize=(3.2 * count, 2.8), squeeze=False, layout="constrained")
    groups: dict[str, list[tuple[str, str]]] = {}
    for label in experiment.cells:
        line, _, place = label.rpartition(", ")
        groups.setdefault(line, []).append((place, label))
    for panel, name in zip(panels[0], experiment.measures, strict=True):
        for line, cells in groups.items():
            spreads = [bench.spread(experiment.cells[label], name) for _, label in cells]
            means, bars = [s.mean for s in spreads], [s.deviation for s in spreads]
            name_of_line = f"rank {line}" if line else ""
            panel.errorbar(range(len(cells)), means, bars, marker="o", markersize=4, capsize=3, label=name_of_line)
            panel.set_xticks(range(len(cells)), [place for place, _ in cells])
        if name in ("change", "jerk"):
            panel.axhline(bench.truth_of(name), linestyle="--", color="grey", linewidth=1)
        panel.set_title(name)
        panel.set_xlabel(experiment.axis)
        panel.set_ylim(0, 1.05 * panel.get_ylim()[1])
    if experiment.grid:
        panels[0][-1].legend()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def clips(bench: Bench, experiment: Experiment, path: Path) -> None:
    """Frames of the first clips: real clip, then each pictured cell."""
    named = [("the real clip", bench.truth["shown"])]
    named += [(label, bench.shown(experiment.cells[label])) for label in experiment.pictured]
    given = experiment.cells[experiment.pictured[0]].noise_level is not None
    count, frames, height, width, _ = named[0][1].shape
    sheet = Image.new(
        "RGB",
        (frames * (width + GAP) - GAP, count * (LABEL + len(named) * (height + LABEL + GAP))),
        "white",
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    y = 0
    for clip in range(count):
        caption = bench.scenes[clip].caption
        draw.text((2, y + 2), f'"{caption}"' + (", first frame given" if given else ""), "black", font)
        y += LABEL
        for label, shown in named:
            draw.text((2, y + 2), label, (90, 90, 90), font)
            for column, frame in enumerate(shown[clip]):
                sheet.paste(Image.fromarray(frame), (column * (width + GAP), y + LABEL))
            y += height + LABEL + GAP
    sheet.save(path, optimize=True)


def maps(by_model: dict[str, Attention], averaged: Attention, path: Path) -> None:
    """The last block's maps of both models and, for the second, the maps from averaged queries and keys."""
    chosen = {label: each.last_block() for label, each in by_model.items()}
    chosen[f"{list(MODELS)[-1]}, averaged first"] = averaged.last_block()
    top = max(float(each.maps.max()) for each in chosen.values())
    pictures = [draw_attention_maps(each, label, top) for label, each in chosen.items()]
    sheet = Image.new("RGB", (sum(picture.width for picture in pictures), pictures[0].height), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (sum(before.width for before in pictures[:index]), 0))
    sheet.save(path, optimize=True)


def explained(names: tuple[str, ...]) -> str:
    """The definitions of the measures, in one sentence."""
    return "; ".join(f"*{name}*: {MEASURES[name]}" for name in names) + "."
