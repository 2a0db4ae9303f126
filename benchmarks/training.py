"""Speed and memory of a training step: ``python -m benchmarks.training [--size 14b] [--device cuda]``.

Compares our step with a plain loop over the same network with PEFT's LoRA layers, as in the public training script,
using the same random weights, clips, noise, gradient checkpointing and optimiser. Each measurement runs in its own
process, and the variants are interleaved. Writes a section of ``TRAINING.md``. Needs the ``benchmarks`` extra.
"""

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch

from pusa_core.training.estimate import estimate
from pusa_core.training.launch import best_device

from .training_variants import GIB, SIZES, VARIANTS, Size, run_variant

log = logging.getLogger(__name__)

RESULTS = Path(__file__).with_name("TRAINING.md")
TITLE = "# Training: speed and memory of a step\n\nWritten by `python -m benchmarks.training`.\n"


def measure(args: argparse.Namespace, variants: list[str]) -> dict[str, list[dict]]:
    results: dict[str, list[dict]] = {variant: [] for variant in variants}
    for repetition in range(args.repetitions):
        for variant in variants:
            command = [sys.executable, "-m", "benchmarks.training", "--variant", variant, "--size", args.size]
            command += ["--device", args.device, "--steps", str(args.steps)]
            ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=RESULTS.parents[1])
            results[variant].append(json.loads(ended.stdout))
            log.info("%d/%d %s: %s", repetition + 1, args.repetitions, variant, results[variant][-1])
    return results


def check_same_training(results: dict[str, list[dict]], tolerance: float) -> None:
    """All variants must agree on the first loss, which precedes any update."""
    first = [run["losses"][0] for runs in results.values() for run in runs if run["fits"]]
    if first and max(first) - min(first) > tolerance * max(first):
        raise RuntimeError(f"the variants do not train the same thing: their first losses are {first}")


def load() -> str:
    """How busy the machine has been over 15 minutes, where the system tells it."""
    return f", on average {os.getloadavg()[2]:.1f} processes at work on them" if hasattr(os, "getloadavg") else ""


def describe(runs: list[dict]) -> str:
    if not all(run["fits"] for run in runs):
        return "out of memory | | |"
    seconds, busy = ([value for run in runs for value in run[kind]] for kind in ("seconds", "busy"))
    peaks = [run["peak"] for run in runs]
    return (
        f"{median(seconds):.3g} ({min(seconds):.3g} to {max(seconds):.3g}) | "
        f"{median(busy):.3g} ({min(busy):.3g} to {max(busy):.3g}) | "
        f"{median(peaks):.2f} ({min(peaks):.2f} to {max(peaks):.2f}) |"
    )


def section(args: argparse.Namespace, size: Size, results: dict[str, list[dict]]) -> str:
    frames, height, width = size.pixels
    on_gpu = torch.device(args.device).type == "cuda"
    machine = torch.cuda.get_device_name() if on_gpu else f"{platform.machine()}, {torch.get_num_threads()} threads"
    kind = "reserved GPU memory" if on_gpu else "resident memory"
    with tempfile.TemporaryDirectory() as folder:
        source: Any = SimpleNamespace(checkpoint=SimpleNamespace(config=size.network, weights={}))
        expected = estimate(source, size.config(Path(folder), args.device), torch.device(args.device))
    network = size.network
    return "\n".join(
        [
            f"## {args.size}, {machine}",
            "",
            f"PyTorch {torch.__version__}, PEFT {version('peft')}, {os.cpu_count()} CPU cores{load()}. A network of "
            f"{network.num_layers} blocks, width {network.dim}, in {size.dtype} with random weights; rank {size.rank}; "
            f"one clip of {frames} frames of {width} x {height}; {'with' if size.recompute else 'without'} gradient "
            f"checkpointing{', offloaded' if size.offload else ''}. Processes per variant, interleaved: "
            f"{args.repetitions}; steps per process, after a warm-up step: {args.steps}. Median (minimum to maximum). "
            f"`--estimate` predicts {expected.memory / GIB:.2f} GiB and {expected.seconds_per_step:.3g} seconds for "
            f"`pusa_core.training`.",
            "",
            f"| | seconds per step | of processor time | peak {kind}, GiB |",
            "|---|---|---|---|",
            *(f"| {VARIANTS[variant]} | {describe(runs)}" for variant, runs in results.items()),
            "",
        ]
    )


def write_section(path: Path, text: str) -> None:
    """Add a section to the results, replacing one with the same heading."""
    parts = path.read_text(encoding="utf-8").split("\n## ") if path.exists() else [TITLE]
    heading = text.splitlines()[0].removeprefix("## ")
    kept = [part for part in parts[1:] if part.splitlines()[0] != heading]
    path.write_text("\n## ".join([parts[0], *kept, text.removeprefix("## ")]), encoding="utf-8")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small", help="smoke only tests the script")
    parser.add_argument("--device", default=best_device())
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--only", choices=VARIANTS, nargs="+", help="measure only these variants")
    parser.add_argument("--variant", choices=VARIANTS, help="measure it in this process (used internally)")
    args = parser.parse_args()
    size = SIZES[args.size]
    if args.variant:
        sys.stdout.write(json.dumps(run_variant(args.variant, size, args.device, args.steps)))
        return
    results = measure(args, args.only or size.variants)
    check_same_training(results, 1e-4 if size.dtype == "fp32" else 0.02)
    write_section(args.output, section(args, size, results))
    log.info("wrote %s", args.output)


if __name__ == "__main__":
    main()
