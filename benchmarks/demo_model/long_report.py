"""The page of :mod:`benchmarks.demo_model.long_video`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

FPS = 16


@dataclass(frozen=True)
class HopMeasures:
    """Means over scenes and frames of a hop.

    ``background``, ``colour``: mean absolute error of the background, and of its mean colour, 0..1. ``position``: of
    the object, pixels. ``seen``: share of frames with the object. ``motion``: its speed over the right one. ``seam``:
    change across the beginning of the hop over the median change between latents within. ``seconds``: of sampling and
    decoding.
    """

    background: float
    colour: float
    position: float
    seen: float
    motion: float
    seam: float
    frames: int
    seconds: float


class Plan(Protocol):
    @property
    def scenes(self) -> int: ...
    @property
    def hops(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def most_hops(self) -> int: ...


Measured = Mapping[str, Sequence[HopMeasures]]


def shown_hops(hops: int) -> list[int]:
    """Numbers of the hops that a table has columns for, from 1."""
    return sorted({1, hops} | {number for number in (2, 4, 6, 8, 10, 20, 30, 40) if number <= hops})


def table(measured: Measured, field: str, hops: int, digits: int, growth: bool = False) -> list[str]:
    numbers = shown_hops(hops)
    heads = [f"hop {number}" for number in numbers] + [f"hop {hops} / hop 1"] * growth
    lines = [f"| recipe | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, measures in measured.items():
        values = [getattr(each, field) for each in measures]
        cells = [f"{values[number - 1]:.{digits}f}" for number in numbers]
        cells += [f"**{values[-1] / values[0]:.2f}**"] * growth
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def cost(measured: Measured, calls: Mapping[str, int]) -> list[str]:
    """``calls``: of the network, for a hop."""
    heads = ["recipe", "new frames a hop", "network calls a new second", "seconds a new second"]
    heads += ["seam after the picture", "mean of later seams"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, measures in measured.items():
        later = measures[1:] or measures
        frames = later[-1].frames
        seconds = sum(each.seconds for each in later) / sum(each.frames for each in later) * FPS
        seam = sum(each.seam for each in later) / len(later)
        times = f"{calls[name] * FPS / frames:.1f} | {seconds:.2f}" if calls[name] else "- | -"
        lines.append(f"| {name} | {frames} | {times} | {measures[0].seam:.2f} | {seam:.2f} |")
    return lines


def longest(measures: Sequence[HopMeasures]) -> list[str]:
    """The default over as many hops as were measured at most."""
    if not measures:
        return []
    hops, frames = len(measures), sum(each.frames for each in measures)
    fields = (("background", 4), ("colour", 4), ("seen", 2), ("motion", 2), ("position", 2), ("seam", 2))
    rows = [line for name, digits in fields for line in table({name: measures}, name, hops, digits, growth=True)[2:]]
    heads = table({"": measures}, "seen", hops, 2, growth=True)[:2]
    return [f"## {hops} hops of the default", "", f"{frames} frames.", "", *heads, *rows, ""]


def report(
    measured: Measured,
    calls: Mapping[str, int],
    longest_run: Sequence[HopMeasures],
    missing: Sequence[str],
    plan: Plan,
    cache: float | None,
    machine: str,
) -> str:
    hops = plan.hops
    frames = sum(each.frames for each in next(iter(measured.values()), ()))
    return "\n".join(
        [
            "# How far a long video drifts",
            "",
            f"Written by `python -m benchmarks.demo_model.long_video --scenes {plan.scenes} --hops {hops} --steps "
            f"{plan.steps} --most-hops {plan.most_hops}` ({machine}); the demo model with its LoRAs, "
            f"{plan.scenes} held-out scenes, their first frames given, {hops} hops of a window of 21 latent "
            f"frames ({frames} frames and more), {plan.steps} steps, cfg 3. At every hop the prompt turns "
            f"the object round, so that there is one right place for it in every frame; every hop has a new seed. One "
            f"of the LoRAs was trained on such windows (demo/README.md).",
            "",
            "## Background error",
            "",
            "Mean absolute error of the background (0..1), which no frame should change.",
            "",
            *table(measured, "background", hops, 4, growth=True),
            "",
            "## Shift of the mean colour",
            "",
            *table(measured, "colour", hops, 4),
            "",
            "## The object",
            "",
            "Error of its position, pixels of 64; where it is not found, 32.",
            "",
            *table(measured, "position", hops, 2),
            "",
            "Share of frames in which it is found.",
            "",
            *table(measured, "seen", hops, 2),
            "",
            "Its speed over the right one (1: as fast as the prompt says, and that way).",
            "",
            *table(measured, "motion", hops, 2),
            "",
            *longest(longest_run),
            "## Seams and cost",
            "",
            "*Seam*: change from the last frame of a hop to the first of the next, over the median of the same change "
            "from a latent frame to the next within it (the frames of one latent differ less). Seconds: sampling and "
            "decoding for each of the scenes of the batch, on a machine that may have been busy.",
            "",
            *cost(measured, calls),
            "",
            *cache_line(cache),
            "## Not measured",
            "",
            *not_measured(plan, missing, cache, bool(longest_run)),
            "",
        ]
    )


def cache_line(cache: float | None) -> list[str]:
    if cache is None:
        return []
    text = (
        f"With 11 of 21 latents given as they are, the KV cache of given frames makes a new one {cache:.2f} times as "
    )
    return [text + "fast (`--given-frames-refresh 0`, 10 steps).", ""]


def not_measured(plan: Plan, missing: Sequence[str], cache: float | None, longest_run: bool) -> list[str]:
    lines = ["- The real model: no weights of it were at hand.", *(f"- {name}." for name in missing)]
    if cache is None:
        lines.append("- The speed-up by the KV cache of given frames.")
    if not longest_run:
        lines.append(f"- {plan.most_hops} hops.")
    if plan.scenes < 16:
        lines.append(f"- More than {plan.scenes} scenes (`--scenes 16`): errors of so few scenes vary.")
    return lines
