"""Generates ``RESULTS-video.md`` from the measurements of ``benchmarks.whole_video``."""

import statistics
from typing import Any

LABELS = {
    "pusa": "this project",
    "comfyui": "ComfyUI's own network",
    "diffusers": "diffusers, one timestep per token",
}
IN_COMFYUI = {"pusa": "this project's nodes in ComfyUI", "comfyui": "ComfyUI's own network in ComfyUI"}
MODES = {"10 steps with guidance": (10, 2), "4 steps without": (4, 1)}
"""Steps, and passes through the network in each: as many as prompts."""
PARTS = ("text", "encode", "steps", "decode", "write")
AROUND = tuple(part for part in PARTS if part != "steps")
DECODES = ("decode, bf16", "decode, compiled")
"""What the bars do without."""
WIDTH = 40  # characters of the longest bar
GB = 1 << 30


def median(part: dict[str, Any] | None) -> float | None:
    """Seconds of a part; None where it was not measured."""
    if not part or "seconds" not in part:
        return None
    own, of = part.get("of", (1, 1))
    return statistics.median(part["seconds"]) * of / own


def spread(part: dict[str, Any] | None) -> str:
    if not part or "seconds" not in part:
        return f"not measured{': ' + part['failed'] if part and 'failed' in part else ''}"
    own, of = part.get("of", (1, 1))
    low, high = (bound(part["seconds"]) * of / own for bound in (min, max))
    return f"{median(part):.3f} ({low:.3f} to {high:.3f})"


def bars(title: str, rows: dict[str, float | None]) -> list[str]:
    """A bar for every part of a video, to scale."""
    known = {name: value for name, value in rows.items() if value is not None}
    if "steps" not in known:
        return []
    longest = max(known.values())
    lines = ["", f"{title}, {sum(known.values()):.1f} s:", "", "```"]
    lines += [
        f"{name:<7}{value:9.3f} s  {'█' * max(1, round(WIDTH * value / longest))}" for name, value in known.items()
    ]
    return [*lines, "```"]


def alone(parts: dict[str, Any], network: str) -> list[str]:
    """The bars of a video without ComfyUI, with this network."""
    lines = []
    for mode, (steps, passes) in MODES.items():
        times = {name: median(parts.get(name)) for name in AROUND}
        one, text = median(parts.get(f"pass, {network}")), times["text"]
        rows = {"text": text and passes * text, "encode": times["encode"], "steps": one and steps * passes * one}
        lines += bars(mode, {**rows, "decode": times["decode"], "write": times["write"]})
    return lines


def in_comfyui(parts: dict[str, Any], network: str) -> list[str]:
    """The bars of a video by ComfyUI's nodes, with this network."""
    lines = [f"## {IN_COMFYUI[network][0].upper()}{IN_COMFYUI[network][1:]}"]
    for mode in MODES:
        found = parts.get(f"in ComfyUI, {network}, {mode}") or {"failed": "no ComfyUI was found"}
        if "failed" in found:
            lines += ["", f"{mode}: not measured: {found['failed']}"]
        else:
            lines += bars(mode, {name: statistics.median(found[name]) for name in PARTS})
    return ["", *lines]


def what_ran(parts: dict[str, Any]) -> list[str]:
    """For a machine without a GPU, where everything is small and no figure means anything."""
    return [
        "No GPU was at hand: a small network ran on a CPU, which shows that the script runs, and nothing more. On a "
        "machine with CUDA the same command measures the real shapes.",
        "",
        "| part | |",
        "|---|---|",
        *(
            f"| {name} | {'not run: ' + part['failed'] if 'failed' in part else 'ran'} |"
            for name, part in parts.items()
        ),
    ]


def report(found: dict[str, Any]) -> str:
    about, parts = dict(found["about"]), found["parts"]
    where = about.pop("machine")
    cuda = found["device"] == "cuda"
    title = f"# A whole video{'' if cuda else ': not measured yet'}"
    versions = ", ".join(f"{name} {value}" for name, value in about.items())
    lines = [title, "", f"Written by `python -m benchmarks.whole_video` on {where}, {versions}.", ""]
    if not cuda:
        return "\n".join([*lines, *what_ran(parts), ""])
    lines += [
        "Random weights in the shapes of UMT5-XXL, the Wan2.1 VAE (fp32) and the 14B network (4 of its 40 blocks, "
        "counted ten times); 81 frames of 480 x 832, one given frame. Medians, with the range. Text, VAE and file are "
        "this project's own, but for the two videos made in ComfyUI, where its nodes and their precision are used.",
        "",
        "| part | seconds |",
        "|---|---|",
        *(f"| {name} | {spread(parts.get(name))} |" for name in (*AROUND, *DECODES)),
    ]
    passes = {name.removeprefix("pass, "): part for name, part in parts.items() if name.startswith("pass, ")}
    base = median(passes.get("pusa"))
    lines += ["", "| network | seconds of a pass | this project, bf16 / it |", "|---|---|---|"]
    for name, part in passes.items():
        ratio = "" if base is None or median(part) is None else f"{base / (median(part) or 1):.2f}"
        lines.append(f"| {LABELS.get(name, 'this project, ' + name)} | {spread(part)} | {ratio} |")
    for name, part in passes.items():
        if "seconds" in part:
            lines += ["", f"## {LABELS.get(name, 'this project, ' + name)}", *alone(parts, name)]
    for network in IN_COMFYUI:
        lines += in_comfyui(parts, network)
    if "marks" in parts.get("cold", {}):
        start = parts["cold"]
        marks = ", ".join(f"{name} after {value:.1f} s" for name, value in start["marks"].items())
        lines += [
            "",
            "## A first video, cold",
            "",
            f"A checkpoint of {start['file'] / GB:.2f} GB and a LoRA, not in the page cache: {marks}. While they are "
            f"loaded, at most {start['peak'] / start['file']:.2f} times the size of the checkpoint is in the memory of "
            f"the GPU; the process has {start['host'] / GB:.1f} GB, memory-mapped files included.",
        ]
    return "\n".join([*lines, ""])
