"""Generates ``RESULTS.md`` and its charts from the measurements of ``benchmarks.forward``."""

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.chart import Lines, draw_chart, save_charts

LABELS = {
    "limit": "lower bound: matmuls and attention alone",
    "pusa": "this project",
    "pusa, one timestep": "this project, one timestep for all frames",
    "comfyui": "ComfyUI's own network",
    "reference": "the public implementation's arithmetic",
    "diffusers": "diffusers, one timestep per token",
}
MB = 1 << 20


def label(variant: str) -> str:
    name = variant.removesuffix(", compiled")
    return LABELS[name] + (", compiled" if name != variant else "")


def median(size: dict[str, Any], variant: str) -> float:
    return statistics.median(size["seconds"][variant])


def table(size: dict[str, Any]) -> list[str]:
    """One row per variant: median times with their range, and per-round ratios to the lower bound."""
    limit = size["seconds"]["limit"]
    peak = size.get("peak", {}).get("flops")
    head = "| | seconds (range) | ratio to the lower bound (range) | peak memory, MB |"
    head += " of peak matmul throughput |" if peak else ""
    rows = [head, "|---|---|---|---|" + ("---|" if peak else "")]
    for variant, seconds in size["seconds"].items():
        ratios = [own / bound for own, bound in zip(seconds, limit, strict=True)]
        memory = size["memory"].get(variant)
        cells = [
            label(variant),
            f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})",
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
            "" if memory is None else f"{memory / MB:,.0f}",
        ]
        if peak:
            cells.append(f"{size['flops'] / statistics.median(seconds) / peak:.0%}")
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def remarks(size: dict[str, Any]) -> list[str]:
    """The other measurements at one size, in words."""
    ours, scalar = size["seconds"]["pusa"], size["seconds"]["pusa, one timestep"]
    vector = statistics.median([a / b for a, b in zip(ours, scalar, strict=True)]) - 1
    step = statistics.median(ours)
    errors = ", ".join(f"{LABELS[name]} {error:.1g}" for name, error in size["errors"].items())
    lines = [
        f"Unequal timesteps take {vector:+.1%} compared with one for all frames. Of a step of this project, the text's "
        f"embedding, keys and values take {size['parts']['text'] / step:.2%} and the time embedding "
        f"{size['parts']['time'] / step:.2%}; the sampler around it adds {size['sampler'] / step:.2%}. Maximum "
        f"difference from this project's output, relative to its largest value: {errors}.",
    ]
    if "reference" in size["memory"]:
        share = size["memory"]["pusa"] / size["memory"]["reference"]
        lines[0] += f" Peak memory is {share:.0%} of that of the public implementation's arithmetic."
    cached = size["cached"]
    lines[0] += (
        f" With a KV cache for {cached['frames']} given frames, a step takes {cached['ratio']:.1%} of a full one; "
        f"refilled every 5 steps, sampling is {5 / (1 + 4 * cached['ratio']):.2f} times faster."
    )
    if "backends" in size:
        backends = ", ".join(f"{name} {seconds:.4f} s" for name, seconds in size["backends"].items())
        lines[0] += f" Attention over all tokens, by backend: {backends}."
    return lines


def growth(sizes: dict[str, dict[str, Any]]) -> list[str]:
    """FLOPs, time and memory relative to the smallest size."""
    ordered = sorted(sizes.values(), key=lambda size: size["tokens"])
    first = ordered[0]
    rows = ["| tokens | FLOPs | time | memory |", "|---|---|---|---|"]
    for size in ordered:
        factors = (
            size["flops"] / first["flops"],
            median(size, "pusa") / median(first, "pusa"),
            size["memory"]["pusa"] / max(first["memory"]["pusa"], 1),
        )
        rows.append(f"| {size['tokens']:,} | " + " | ".join(f"x{factor:.1f}" for factor in factors) + " |")
    return rows


def chart(name: str, sizes: dict[str, dict[str, Any]], path: Path) -> None:
    ordered = sorted(sizes.values(), key=lambda size: size["tokens"])
    eager = [variant for variant in LABELS if variant in ordered[0]["seconds"] and variant != "pusa, one timestep"]
    time: Lines = {variant: [(size["tokens"], median(size, variant)) for size in ordered] for variant in eager}
    memory: Lines = {
        variant: [(size["tokens"], max(size["memory"][variant] / MB, 1)) for size in ordered]
        for variant in eager
        if variant != "limit"
    }
    charts = [(f"{name}: seconds of a step", time), (f"{name}: peak memory, MB", memory)]
    save_charts([draw_chart(title, "tokens", lines, eager) for title, lines in charts], path)


def section(found: dict[str, Any], folder: Path) -> list[str]:
    about = dict(found["about"])
    lines = [f"## {about.pop('machine')}", "", ", ".join(f"{name} {value}" for name, value in about.items()) + ".", ""]
    for number, (name, sizes) in enumerate(found["cases"].items()):
        if not sizes:
            continue
        lines += [f"### {name}", ""]
        for size in sorted(sizes.values(), key=lambda size: size["tokens"]):
            lines += [f"{size['tokens']:,} tokens:", "", *table(size), "", *remarks(size), ""]
        if len(sizes) > 1:
            picture = folder / f"forward-{found['profile']}-{number}.png"
            chart(name, sizes, picture)
            lines += ["Scaling of this project with the number of tokens:", "", *growth(sizes), ""]
            lines += [f"![time and memory against tokens]({picture.name})", ""]
    return lines


def levels_section(found: dict[str, Any]) -> list[str]:
    """Measurements of ``benchmarks.token_levels``."""
    lines = [
        f"## A level for every token, {found['machine']}",
        "",
        "Written by `python -m benchmarks.token_levels`: blocks of the 14B model with one timestep for each frame "
        f"and with one for each token, of {found['levels']} distinct ones, in turn. *Elementwise*: the modulation and "
        "gates of a block alone, which is all that differs. Ratios are medians over the rounds, with their range; "
        "memory is the peak above the level before.",
        "",
        "| | tokens | per frame, s | per token / per frame | more memory, MB | equal levels, bits |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found["rows"].items():
        frame, token = row["seconds"]
        ratios = [own / other for own, other in zip(token, frame, strict=True)]
        cells = [
            name,
            f"{row['tokens']:,}",
            f"{statistics.median(frame):.3f}",
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
            f"{(row['memory'][1] - row['memory'][0]) / MB:,.0f}",
            "the same" if row["same_bits"] else "other",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if {"elementwise", "block"} <= found["rows"].keys():
        lines += ["", share_of_block(found["rows"]["elementwise"], found["rows"]["block"])]
    return [*lines, ""]


def share_of_block(elementwise: dict[str, Any], block: dict[str, Any]) -> str:
    """What a level for every token adds to a block of as many tokens as the elementwise operations had."""
    frame, token = (statistics.median(seconds) for seconds in elementwise["seconds"])
    whole = statistics.median(block["seconds"][0]) * block["flops_full"] / block["flops"]
    return (
        f"At {elementwise['tokens']:,} tokens the elementwise operations take {token - frame:.2f} s more. A block of "
        f"as many would take {whole:,.0f} s, computed from its matmuls and attention at the speed of the block above: "
        f"**{(token - frame) / whole:+.2%}**."
    )


def write_results(folder: Path) -> None:
    """Write ``RESULTS.md`` in ``folder``, from all ``forward-*.json`` there."""
    lines = [
        "# One step of the DiT: time and memory",
        "",
        "Written by `python -m benchmarks.forward`. All networks have the same weights and inputs, a different "
        "timestep for every frame, and PyTorch's own attention; their runs are interleaved, each in its own process. "
        "Seconds are medians over the rounds. Memory is the peak during a step minus the level before it: of resident "
        "memory on a CPU, of allocated memory on a GPU.",
        "",
    ]
    for store in sorted(folder.glob("forward-*.json")):
        lines += section(json.loads(store.read_text()), folder)
    for store in sorted(folder.glob("token-levels-*.json")):
        lines += levels_section(json.loads(store.read_text()))
    (folder / "RESULTS.md").write_text("\n".join(lines).rstrip() + "\n")
