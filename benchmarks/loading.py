"""Time and memory to load a checkpoint and merge a LoRA: ``python -m benchmarks.loading [--folder /tmp]``.

Writes files with random weights of the 1.3B model's shapes (2.9 GB, deleted at the end), measures each task in its own
process with the files evicted from the page cache, and writes ``RESULTS-loading.md``.
"""

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from pusa_core import Lora, LoraLayer, WanConfig, WanModel, load_checkpoint, load_lora, merge_lora, save_lora
from pusa_core.training.adapters import TARGETS
from pusa_core.weights.checkpoints import expected_shapes

from .memory import MB, resident

log = logging.getLogger(__name__)

CONFIG = WanConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=30)
RANK = 32
BLOCK = 16 << 20
BOUND = 300  # MB in addition to the size of the files
RESULTS = Path(__file__).with_name("RESULTS-loading.md")
TASKS = {
    "import": "import PyTorch and pusa_core only",
    "read": "plain sequential read of the checkpoint",
    "load": "`load_checkpoint`, which checks all weights for NaN",
    "merge": "`load_checkpoint`, `load_lora`, `merge_lora`",
}


def write_files(checkpoint: Path, lora: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape in expected_shapes(CONFIG):
        tensors[name] = torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
    save_file(tensors, checkpoint)
    write_lora(CONFIG, lora)


def write_lora(config: WanConfig, path: Path) -> None:
    """A LoRA of rank ``RANK`` with random weights for every layer that LoRAs are trained for."""
    generator = torch.Generator().manual_seed(1)
    layers = {}
    for name, shape in expected_shapes(config):
        layer = name.removesuffix(".weight")
        if TARGETS.fullmatch(layer) and layer != name:
            down, up = (
                torch.randn(RANK, shape[1], generator=generator),
                torch.randn(shape[0], RANK, generator=generator),
            )
            layers[layer] = LoraLayer(down.bfloat16(), up.bfloat16() / 100)
    save_lora(Lora(layers), path)


def forget(*paths: Path) -> None:
    """Evict files from the page cache."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run_task(task: str, checkpoint: Path, lora: Path) -> None:
    """Run one task in this process; prints its time in seconds and peak resident memory in MB."""
    started = time.perf_counter()
    if task == "read":
        with checkpoint.open("rb", buffering=0) as file:
            buffer = bytearray(BLOCK)
            while file.readinto(buffer):
                pass
    if task in ("load", "merge"):
        weights = load_checkpoint(checkpoint)
        with torch.device("meta"):
            model = WanModel(CONFIG)
        model.load_state_dict(weights, assign=True)
        del weights
        if task == "merge":
            merge_lora(model, load_lora(lora), 1.4)
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - started, "peak": resident("VmHWM") / MB}))


def measure(task: str, checkpoint: Path, lora: Path) -> dict[str, float]:
    forget(checkpoint, lora)
    command = [sys.executable, "-m", "benchmarks.loading", "--task", task, "--folder", str(checkpoint.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    return json.loads(done.stdout)


def report(results: dict[str, dict[str, float]], checkpoint_mb: float, lora_mb: float) -> str:
    rows = [f"| {TASKS[task]} | {result['seconds']:.1f} | {result['peak']:.0f} |" for task, result in results.items()]
    over = results["merge"]["peak"] - checkpoint_mb - lora_mb
    read, load = results["read"]["seconds"], results["load"]["seconds"]
    return "\n".join(
        [
            "# Loading: time and memory",
            "",
            f"Written by `python -m benchmarks.loading` on {platform.machine()} with {os.cpu_count()} CPU cores, "
            f"{torch.get_num_threads()} of them for PyTorch {torch.__version__}. Checkpoint: the shapes of the 1.3B "
            f"model in bf16, {checkpoint_mb:.0f} MB; LoRA: all layers, rank {RANK}, {lora_mb:.0f} MB. Each task ran "
            f"in its own process, with the files evicted from the page cache.",
            "",
            "| task | seconds | peak resident MB |",
            "|---|---|---|",
            *rows,
            "",
            f"Loading and merging peaks at {over:+.0f} MB relative to the size of the two files (bound: +{BOUND}), "
            f"including PyTorch itself: **{'within' if over <= BOUND else 'OUTSIDE OF'} the bound**. Loading takes "
            f"{load / read:.2f} times as long as the plain read.",
            "",
        ]
    )


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--task", choices=TASKS, help="run one task in this process (used internally)")
    args = parser.parse_args()
    checkpoint, lora = args.folder / "pusa_benchmark_13b.safetensors", args.folder / "pusa_benchmark_lora.safetensors"
    if args.task:
        logging.getLogger().setLevel(logging.WARNING)
        return run_task(args.task, checkpoint, lora)
    try:
        write_files(checkpoint, lora)
        results = {task: measure(task, checkpoint, lora) for task in TASKS}
        RESULTS.write_text(report(results, checkpoint.stat().st_size / MB, lora.stat().st_size / MB))
        log.info("wrote %s", RESULTS)
    finally:
        checkpoint.unlink(missing_ok=True)
        lora.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
