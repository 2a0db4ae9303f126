"""Time and memory of an exact attention map at the size of a real video: ``python -m benchmarks.attention_map``.

A video of 832 x 480 and 81 frames is 32,760 tokens in 21 latent frames; the 14B model has 40 heads of 128. Uses random
queries and keys in bf16 of these shapes. The map is computed in a separate process, which reports its peak memory.
Writes ``RESULTS-attention-map.md``.
"""

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch

from pusa_core.analysis import frame_attention

from .memory import resident

log = logging.getLogger(__name__)

FRAMES, TOKENS, HEADS, WIDTH = 21, 32_760, 40, 128
RESULTS = Path(__file__).with_name("RESULTS-attention-map.md")
GB = 1 << 30


def peak(device: str) -> int:
    """Peak memory so far in bytes: allocated GPU memory, or resident memory including memory-mapped files."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resident("VmHWM")


def run(device: str, heads: int) -> None:
    """Compute one map in this process; prints its time, memory and the maximum error of a row sum."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, TOKENS, heads, WIDTH)
    q, k = (torch.empty(shape, dtype=torch.bfloat16).normal_(generator=generator).to(device) for _ in range(2))
    frame_attention(q[:, :FRAMES], k[:, :FRAMES], FRAMES)  # warm-up: loads PyTorch's kernels
    before, started = peak(device), time.perf_counter()
    maps = frame_attention(q, k, FRAMES).cpu()
    seconds, after = time.perf_counter() - started, peak(device)
    error = (maps.sum(-1) - 1).abs().max().item()
    sys.stdout.write(json.dumps({"seconds": seconds, "memory": after - before, "error": error}))


def report(result: dict[str, float], device: str, heads: int) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {os.cpu_count()} CPU cores"
    whole = TOKENS**2 * heads * 4 / GB
    return "\n".join(
        [
            "# Exact attention maps: time and memory",
            "",
            f"Written by `python -m benchmarks.attention_map` on {name}, {torch.get_num_threads()} threads, PyTorch "
            f"{torch.__version__}. One block's map of {TOKENS:,} tokens (832 x 480, 81 frames), {heads} heads of "
            f"{WIDTH}, queries and keys in bf16.",
            "",
            "| | |",
            "|---|---|",
            f"| time | {result['seconds']:.1f} s |",
            f"| memory in addition to queries and keys | {result['memory'] / GB:.2f} GiB |",
            f"| the full attention matrices would take | {whole:.0f} GiB |",
            f"| maximum error of a row sum | {result['error']:.1e} |",
            "",
        ]
    )


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--heads", type=int, default=HEADS, help="number of heads (default: that of the 14B model)")
    parser.add_argument("--child", action="store_true", help="compute in this process (used by the script itself)")
    args = parser.parse_args()
    if args.child:
        return run(args.device, args.heads)
    command = [sys.executable, "-m", "benchmarks.attention_map", "--child"]
    command += ["--device", args.device, "--heads", str(args.heads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    RESULTS.write_text(report(json.loads(done.stdout), args.device, args.heads), encoding="utf-8")
    log.info("wrote %s", RESULTS)


if __name__ == "__main__":
    main()
