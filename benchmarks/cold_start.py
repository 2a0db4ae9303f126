"""A first video after a cold start: the time from the command to the end of the first step."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.forward import write_weights
from benchmarks.loading import forget, write_lora

COLD = """
import json, sys, time
started = float(sys.argv[1])
marks = {}
import torch
from pusa_core import load_model
marks["import"] = time.time() - started
from benchmarks.memory import resident
device, dtype, size = sys.argv[4], getattr(torch, sys.argv[5]), json.loads(sys.argv[6])
model = load_model(sys.argv[2], [(sys.argv[3], 1.4)], device=device, dtype=dtype)
if device == "cuda": torch.cuda.synchronize()
marks["loaded, LoRA merged"] = time.time() - started
peak = torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")
with torch.inference_mode():
    latents = torch.randn(1, 16, *size, device=device, dtype=dtype)
    context = torch.randn(1, 512, model.config.text_dim, device=device, dtype=dtype)
    model(latents, torch.full((1,), 800.0, device=device), context)
    if device == "cuda": torch.cuda.synchronize()
marks["first step"] = time.time() - started
print(json.dumps({"marks": marks, "peak": peak, "host": resident("VmHWM")}))
"""


def first_step(case: Case, device: str, folder: Path) -> dict[str, Any]:
    """In a new process, with random weights and a LoRA in ``folder``, neither of them in the page cache."""
    checkpoint, lora = folder / "cold.safetensors", folder / "lora.safetensors"
    if not checkpoint.exists():
        write_weights(case, device, checkpoint)
        write_lora(case.config, lora)
    forget(checkpoint, lora)
    arguments = [str(time.time()), str(checkpoint), str(lora), device, case.dtype, json.dumps(case.sizes[0])]
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", COLD, *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-400:])
    size = checkpoint.stat().st_size
    return {**json.loads(done.stdout.splitlines()[-1]), "file": size}
