"""What is in memory at the peak of a step, eager and compiled: ``python -m benchmarks.compiled_memory``.

Counted on a CPU, in units of the token stream ``[N, D]`` in bf16, by recording every allocation of a step of a network
in the 14B model's proportions. As on a GPU, attention and RMS normalisation have no memory but their results. Writes
``RESULTS-compiled-memory.md``.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.cases import SIZE_480P
from pusa_core import WanConfig, WanModel

RESULTS = Path(__file__).parent / "RESULTS-compiled-memory.md"
CONFIG = WanConfig(dim=640, ffn_dim=1728, num_heads=5, num_layers=2, text_dim=64)
FULL_WIDTH = 5120
SIZE = (21, 16, 16)
TOKENS = SIZE[0] * SIZE[1] * SIZE[2] // 4
SMALLEST = 0.05
"""Of a token stream; smaller tensors are not listed."""


@torch.library.custom_op("pusa_benchmark::attend", mutates_args=())
def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """No attention, only its result's memory."""
    return q.new_zeros(*q.shape[:2], q.shape[2] * q.shape[3])


@attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q.new_empty(*q.shape[:2], q.shape[2] * q.shape[3])


class FusedRMSNorm(nn.RMSNorm):
    """Row by row, where it is not compiled: PyTorch's own for CPUs keeps the whole input in fp32."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return super().forward(x)
        out = torch.empty_like(x)
        for row, normed in zip(x.flatten(0, -2), out.flatten(0, -2), strict=True):
            normed.copy_(super().forward(row))
        return out


def peak(step: Any, *arguments: Tensor) -> list[int]:
    """Bytes of the tensors that are alive when most memory is in use, largest first; inputs and weights left out."""
    for _ in range(2):
        step(*arguments, attend=attend)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step(*arguments, attend=attend)
    changes: list[tuple[int, int, int]] = []
    events = list(recorded.profiler.kineto_results.experimental_event_tree())  # type: ignore[union-attr]
    while events:
        event = events.pop()
        events += event.children
        if hasattr(event.extra_fields, "alloc_size"):
            changes.append((event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size))
    alive: dict[int, int] = {}
    highest: list[int] = []
    for _, address, size in sorted(changes):
        if size > 0:
            alive[address] = size
        else:
            alive.pop(address, None)
        if sum(alive.values()) > sum(highest):
            highest = list(alive.values())
    return sorted(highest, reverse=True)


def report(peaks: dict[str, list[int]]) -> str:
    stream = TOKENS * CONFIG.dim * 2
    frames, height, width = SIZE_480P
    full = frames * height * width // 4 * FULL_WIDTH * 2
    lines = [
        "# Memory at the peak of a step, counted",
        "",
        f"Written by `python -m benchmarks.compiled_memory` (torch {torch.__version__}, CPU). In units of the token "
        f"stream in bf16, which for 81 x 480 x 832 at the 14B model's width is {full / 1e6:.0f} MB. What the compiler "
        "makes for a GPU may differ. The rotary table, in fp32, is larger beside tokens of this small width than "
        f"beside those of {FULL_WIDTH}.",
        "",
        "| | together | tensors alive |",
        "|---|---|---|",
    ]
    for name, sizes in peaks.items():
        parts = " + ".join(f"{size / stream:.2g}" for size in sizes if size > SMALLEST * stream)
        lines.append(f"| {name} | {sum(sizes) / stream:.2f} | {parts} |")
    return "\n".join([*lines, ""])


def main() -> None:
    torch.manual_seed(0)
    layers = {name: getattr(nn, name) for name in ("Linear", "Conv3d", "LayerNorm")}
    model = WanModel(CONFIG, operations=SimpleNamespace(**layers, RMSNorm=FusedRMSNorm), dtype=torch.bfloat16).eval()
    for block in model.blocks:
        block.ffn_tokens = TOKENS // 4  # type: ignore[assignment]  # about the share of a whole video
    latents, context = torch.randn(1, 16, *SIZE).bfloat16(), torch.randn(1, 8, CONFIG.text_dim).bfloat16()
    timestep = torch.rand(1, SIZE[0]) * 1000
    torch._inductor.config.force_disable_caches = True
    with torch.inference_mode():
        peaks = {"eager": peak(model, latents, timestep, context)}
        peaks["compiled"] = peak(torch.compile(model, dynamic=False), latents, timestep, context)
    RESULTS.write_text(report(peaks))


if __name__ == "__main__":
    main()
