"""Generates ``RESULTS-video.md`` from the measurements of ``benchmarks.whole_video``."""

import statistics
from typing import Any

LABELS = {
    "pusa": "this project",
    "comfyui": "ComfyUI's own network",
    "diffusers": "diffusers, one timestep per token",
}
MODES = {"10 steps with guidance": 20, "4 steps without": 4}
"""Passes through the network."""
AROUND = ("text", "encode", "decode", "write")
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


def bars(parts: dict[str, Any], network: str) -> list[str]:
    """A bar for every part of a video, to scale."""
    lines = []
    for mode, passes in MODES.items():
        times = {name: median(parts.get(name)) for name in AROUND}
        one = median(parts.get(f"pass, {network}"))
        steps = None if one is None else passes * one
        rows = {"text": times["text"], "encode": times["encode"], "steps": steps}
        rows |= {"decode": times["decode"], "write": times["write"]}
        known = [value for value in rows.values() if value is not None]
        if steps is None or not known:
            continue
        lines += ["", f"{mode}, {sum(known):.1f} s:", "", "```"]
        for name, value in rows.items():
            if value is not None:
                lines.append(f"{name:<7}{value:9.3f} s  {'█' * max(1, round(WIDTH * value / max(known)))}")
        lines.append("```")
    return lines


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
        "this project's own in all rows.",
        "",
        "| part | seconds |",
        "|---|---|",
        *(f"| {name} | {spread(parts.get(name))} |" for name in AROUND),
    ]
    passes = {name.removeprefix("pass, "): part for name, part in parts.items() if name.startswith("pass, ")}
    base = median(passes.get("pusa"))
    lines += ["", "| network | seconds of a pass | this project, bf16 / it |", "|---|---|---|"]
    for name, part in passes.items():
        ratio = "" if base is None or median(part) is None else f"{base / (median(part) or 1):.2f}"
        lines.append(f"| {LABELS.get(name, 'this project, ' + name)} | {spread(part)} | {ratio} |")
    for name, part in passes.items():
        if "seconds" in part:
            lines += ["", f"## {LABELS.get(name, 'this project, ' + name)}", *bars(parts, name)]
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
