"""The document about a run of ``benchmarks.in_comfyui``."""

from typing import Any

GB = 1 << 30


def write_report(results: dict[str, Any], tolerance: float) -> str:
    machine, shape = results["machine"], results["shape"]
    cuda, size = machine["cuda"], shape["size"]
    where = f"{machine['name']}, {machine['memory'] / GB:.0f} GB" if cuda else f"a CPU ({machine['processor']}), no GPU"
    lines = [
        "# The nodes on a GPU" if cuda else "# The nodes on a GPU: not measured yet",
        "",
        f"Machine: {where}. ComfyUI {machine['comfyui']}, PyTorch {machine['torch']}. Written by",
        "`python -m benchmarks.in_comfyui --out FILE.json --report FILE.md`.",
        "",
    ]
    if not cuda:
        lines += [
            "No GPU was at hand. The figures below were taken on a CPU, with a reduced model, and say nothing about a",
            "GPU; they show that the script runs. On a machine with CUDA the same command runs the model at full size",
            "and the cases that are skipped here.",
            "",
        ]
    of = "the GPU" if cuda else "the server's process"
    few, many = shape["steps"]
    lines += [
        f"The large model has random weights and the width of Wan2.1 1.3B, {shape['layers']} of 30 layers, for a video",
        f"of {size['width']} x {size['height']}, {size['length']} frames, with guidance. A difference is the mean",
        f"absolute one to the reference, as a fraction of its standard deviation; the tolerance is {tolerance:g}.",
        f"Seconds a step are the difference between runs of {many} and of {few} steps. Peak memory is that of {of},",
        "polled.",
        "",
        "| case | result | difference to | seconds a step | peak memory |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(row(name, case) for name, case in results["cases"].items()), ""])


def row(name: str, case: dict[str, Any]) -> str:
    difference = f"{case['difference']:.1e} to {case['compared with']}" if "difference" in case else ""
    seconds = f"{case['seconds a step']:.3f}" if "seconds a step" in case else ""
    peak = f"{case['peak bytes'] / GB:.2f} GB" if "peak bytes" in case else ""
    return f"| {name} | {outcome(case)} | {difference} | {seconds} | {peak} |"


def outcome(case: dict[str, Any]) -> str:
    if "failed" in case:
        return "FAILED: " + " ".join(case["failed"].split()).replace("|", "/")
    if "skipped" in case:
        return f"skipped: {case['skipped']}"
    if "previews" in case:
        return f"{case['previews']} previews, {case['ended with']}"
    if "ended" in case:
        return f"{case['ended']} after {case['seconds']:.1f} s; the next graph ran"
    return "DIFFERS" if case.get("within tolerance") is False else "ran"
