"""Time and memory of a level for every token against one for every frame: ``python -m benchmarks.token_levels``.

Blocks of the 14B model with random weights. The elementwise operations, which are all that differs, are measured at
32,760 tokens everywhere. On a CPU the whole block has few tokens, as one at 32,760 takes a quarter of an hour; what it
would take there is computed from its arithmetic, at the speed measured. Every case is stored as soon as it is done.
"""

import argparse
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.memory import reset_peak, resident
from benchmarks.report import write_results
from benchmarks.variants import arithmetic
from demo.training.machine import machine
from pusa_core import WanConfig, WanModel
from pusa_core.model.elementwise import gated_residual, modulate
from pusa_core.model.modulation import LEVELS, offset_vectors

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
FULL, SMALL = (21, 60, 104), (5, 24, 40)  # latents: 832 x 480, 81 frames; and 320 x 192, 17 frames
CONFIG = WanConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=1)
CASES = ["elementwise", "block"]
TEXT = 512
Run = Callable[[Tensor], Tensor]


def timesteps(size: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """One per frame; the same for each token; and regions at ``LEVELS`` distinct levels."""
    frames, height, width = size
    per_frame = torch.linspace(1000, 300, frames)[None]
    same = per_frame[..., None, None].expand(1, frames, height // 2, width // 2)
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(LEVELS, same.shape, generator=generator) * (1000 / (LEVELS - 1))
    return per_frame, same, levels


def block(model: WanModel, size: tuple[int, int, int], device: str, dtype: torch.dtype) -> Run:
    """The model of one block, from latents to velocity."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 16, *size, generator=generator).to(device, dtype)
    context = torch.randn(1, TEXT, CONFIG.text_dim, generator=generator).to(device, dtype)
    return lambda timestep: model(latents, timestep, context)


def elementwise(model: WanModel, size: tuple[int, int, int], device: str, dtype: torch.dtype) -> Run:
    """The modulation and gates of one block on tokens of the whole size."""
    frames, height, width = size
    modulation = model.get_parameter("blocks.0.modulation")
    tokens = torch.randn(1, frames * height * width // 4, CONFIG.dim).to(device, dtype)

    def run(timestep: Tensor) -> Tensor:
        embed = model.embed_time if timestep.ndim == 2 else model.embed_time_of_tokens
        shift1, scale1, gate1, shift2, scale2, gate2 = offset_vectors(modulation, embed(timestep, dtype)[0])
        x = gated_residual(tokens, modulate(tokens.clone(), shift1, scale1), gate1)
        return gated_residual(x, modulate(x.clone(), shift2, scale2), gate2)

    return run


def measure(run: Run, size: tuple[int, int, int], rounds: int, device: str) -> dict:
    per_frame, same, levels = (each.to(device) for each in timesteps(size))
    seconds: tuple[list[float], list[float]] = [], []
    memory = [0, 0]
    equal = torch.equal(run(per_frame), run(same))  # and a first call of both
    for index in range(rounds):
        for place, timestep in list(enumerate((per_frame, levels)))[:: -1 if index % 2 else 1]:
            before = start(device)
            began = time.perf_counter()
            run(timestep)
            peak = finish(device)
            seconds[place].append(time.perf_counter() - began)
            memory[place] = max(memory[place], peak - before)
    own, full = (arithmetic(CONFIG, math.prod(each) // 4, each[0], TEXT) for each in (size, FULL))
    result = {"tokens": same.numel(), "seconds": seconds, "memory": memory, "same_bits": equal}
    return {**result, "flops": own, "flops_full": full}


def start(device: str) -> int:
    """Memory in use, from which a peak is counted."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    reset_peak()
    return resident("VmRSS")


def finish(device: str) -> int:
    if device == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return resident("VmHWM")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=CASES, nargs="+", default=CASES, help="the others keep their last results")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = WanModel(CONFIG, device=device, dtype=dtype).eval().requires_grad_(False)
    store = HERE / f"token-levels-{device}.json"
    rows = json.loads(store.read_text())["rows"] if store.exists() else {}
    for name in args.only:
        build, size = (elementwise, FULL) if name == "elementwise" else (block, FULL if device == "cuda" else SMALL)
        with torch.no_grad():
            rows[name] = measure(build(model, size, device, dtype), size, args.rounds, device)
        log.info("%s: %s", name, rows[name])
        found = {"machine": f"{machine()}, {dtype}".replace("torch.", ""), "levels": LEVELS, "rows": rows}
        store.write_text(json.dumps(found, indent=1) + "\n")
    write_results(HERE)


if __name__ == "__main__":
    main()
