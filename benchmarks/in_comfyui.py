"""The nodes in a real ComfyUI server, on its GPU if it has one: ``python -m benchmarks.in_comfyui --out FILE.json``.

Runs the demo graphs and a random-weights model of the width of Wan2.1 1.3B, in bf16 and in fp8 with scales, with
weights partly offloaded and a LoRA on top, compiled and with SageAttention. Every result is compared with that of a
server on the CPU or in its default mode. Each case is written to FILE as soon as it is done, and a second call goes on
behind the last one, so a run that was cut short loses nothing. ``--report FILE.md`` writes the document.

ComfyUI is found at ``$COMFYUI_PATH``. On a CPU the large model is reduced and there are fewer demo graphs
(:data:`SMALL`), and the cases about GPU memory are skipped.
"""

import argparse
import json
import logging
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import in_comfyui_graphs as graphs
from benchmarks.in_comfyui_report import write_report
from benchmarks.in_comfyui_watch import count_previews, interrupt, peak_memory
from tools.comfy_client import ComfyClient, Graph
from tools.comfyui import find_comfyui, make_base, python_of, running_server

log = logging.getLogger(__name__)

FULL: dict[str, Any] = {"layers": 30, "steps": (2, 6), "size": {"width": 832, "height": 480, "length": 81}, "demos": 99}
SMALL: dict[str, Any] = {"layers": 2, "steps": (2, 6), "size": {"width": 64, "height": 64, "length": 17}, "demos": 3}
"""Layers of the large model, its steps and video, and how many of the demo graphs are run."""

TOLERANCE = 0.05
"""Mean absolute difference to the reference, as a fraction of its standard deviation; bf16 against fp32 stays below."""

Case = Callable[[ComfyClient], dict[str, Any]]

PROBE = """
import importlib.util, json, torch
cuda = torch.cuda.is_available()
gpu = torch.cuda.get_device_properties(0) if cuda else None
sage = importlib.util.find_spec("sageattention") is not None
found = {"cuda": cuda, "name": gpu and gpu.name, "memory": gpu and gpu.total_memory, "sage": sage}
print(json.dumps({**found, "torch": torch.__version__}))
"""


class Run:
    """The results so far, and the latents that later cases are compared with."""

    def __init__(self, comfyui: Path, out: Path, folder: Path, minutes: float) -> None:
        self.comfyui, self.out, self.folder = comfyui, out, folder
        self.deadline = time.monotonic() + 60 * minutes
        self.results: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
        self.results.setdefault("cases", {})
        probed = subprocess.run(
            [python_of(comfyui), "-c", PROBE], cwd=comfyui, capture_output=True, text=True, check=True
        )
        self.machine = json.loads(probed.stdout.splitlines()[-1])
        self.shape = FULL if self.machine["cuda"] else SMALL
        self.results["machine"] = {**self.machine, "processor": platform.machine(), "comfyui": version_of(comfyui)}
        self.results["shape"] = self.shape
        folder.mkdir(parents=True, exist_ok=True)
        self.base = folder / "base"
        if not self.base.exists():
            make_base(self.base)
            graphs.write_models(self.base / "models", self.shape["layers"])

    def serve(self, options: list[str], cases: dict[str, Case]) -> None:
        """Run the cases that are not done yet on one server, until the time is over."""
        done = {name for name, result in self.results["cases"].items() if "failed" not in result}
        left = {name: case for name, case in cases.items() if name not in done}
        if not left or time.monotonic() > self.deadline:
            return
        device = [] if self.machine["cuda"] or "--cpu" in options else ["--cpu"]
        started = time.monotonic()
        try:
            with running_server(self.comfyui, self.base, [*device, *options]) as url:
                log.info("server %s: up after %.0f s", " ".join(options), time.monotonic() - started)
                for name, case in left.items():
                    if time.monotonic() > self.deadline:
                        log.info("the time is over; call again for the other cases")
                        return
                    self.measure(name, case, ComfyClient(url))
        except RuntimeError as error:  # the server did not start
            for name in left:
                self.record(name, {"failed": str(error)[-500:]})

    def measure(self, name: str, case: Case, comfy: ComfyClient) -> None:
        started = time.monotonic()
        try:
            comfy.post("/free", {"unload_models": True, "free_memory": True})
            result = case(comfy)
        except Exception as error:  # one case must not end the run
            result = {"failed": f"{type(error).__name__}: {error}"[:500]}
        self.record(name, {**result, "wall seconds": round(time.monotonic() - started, 1)})

    def record(self, name: str, result: dict[str, Any]) -> None:
        log.info("%s: %s", name, result)
        self.results["cases"][name] = result
        self.out.write_text(json.dumps(self.results, indent=1) + "\n")

    def keep(self, name: str, latents: Tensor) -> None:
        torch.save(latents, self.folder / f"{name}.pt")

    def compare(self, name: str, latents: Tensor) -> dict[str, Any]:
        """How far ``latents`` are from those kept under ``name``."""
        reference = torch.load(self.folder / f"{name}.pt")
        difference = float((latents - reference).abs().mean() / reference.std())
        return {"compared with": name, "difference": difference, "within tolerance": difference < TOLERANCE}


def version_of(comfyui: Path) -> str:
    return (comfyui / "comfyui_version.py").read_text().rpartition("=")[2].strip().strip('"')


def reference(run: Run, name: str) -> Case:
    """A demo graph on the CPU, kept for comparison."""

    def case(comfy: ComfyClient) -> dict[str, Any]:
        graph = graphs.demo_graph(name)
        run.keep(name, comfy.latent(graph, graphs.sampler_of(graph)))
        return {}

    return case


def demo(run: Run, name: str) -> Case:
    def case(comfy: ComfyClient) -> dict[str, Any]:
        graph = graphs.demo_graph(name)
        return run.compare(name, comfy.latent(graph, graphs.sampler_of(graph)))

    return case


def training(comfy: ComfyClient) -> dict[str, Any]:
    outputs = comfy.run(graphs.demo_graph(graphs.TRAINING))
    return {"outputs": len(outputs)}


def large(
    run: Run, name: str, file: str, *, same_as: str = "", change: Callable[[Graph], Graph] = lambda g: g, **kind: Any
) -> Case:
    """Seconds a step, peak memory and result of the large model; ``same_as``: the case with the expected result."""

    def case(comfy: ComfyClient) -> dict[str, Any]:
        few, many = run.shape["steps"]

        def timed(steps: int) -> tuple[float, Tensor]:
            graph = change(graphs.large_graph(file, steps, run.shape["size"], **kind))
            started = time.monotonic()
            latents = comfy.latent(graph, "video")
            return time.monotonic() - started, latents

        for steps in (few, many):  # loads; compiles, and compiles again for another number of steps
            timed(steps)
        with peak_memory(comfy, run.machine["cuda"]) as peak:
            short, _ = timed(few)
            long, latents = timed(many)
        run.keep(name, latents)
        result = {"seconds a step": (long - short) / (many - few), "peak bytes": max(peak)}
        return {**result, **(run.compare(same_as, latents) if same_as else {})}

    return case


def run_all(run: Run) -> None:
    cuda, demos = run.machine["cuda"], graphs.DEMO[: run.shape["demos"]]
    run.serve(["--cpu"], {f"{name} on the CPU": reference(run, name) for name in demos})
    preview = graphs.demo_graph("demo_image_to_video")
    preview[graphs.sampler_of(preview)]["inputs"]["seed"] = 12345  # no result of it is in the server's cache
    pusa, native = "Pusa Load, bf16", "ComfyUI's own network, bf16"
    default: dict[str, Case] = {name: demo(run, name) for name in demos}
    default["previews"] = lambda comfy: count_previews(comfy, preview)
    default["interrupt"] = lambda comfy: interrupt(comfy, preview, graphs.sampler_of(preview))
    default[native] = large(run, native, graphs.BF16, loader="native")
    default[pusa] = large(run, pusa, graphs.BF16, same_as=native)
    pusa8, native8 = "Pusa Load, fp8 with scales", "ComfyUI's own network, fp8 with scales"
    default[native8] = large(run, native8, graphs.FP8, loader="native")
    default[pusa8] = large(run, pusa8, graphs.FP8, same_as=native8)
    default["Pusa Load, compiled"] = large(run, "compiled", graphs.BF16, same_as=pusa, change=graphs.compiled)
    with_lora = "Pusa Load with a LoRA"
    default[with_lora] = large(run, with_lora, graphs.BF16, lora=True)
    run.serve([], default)
    reserved = "0" if not cuda else f"{run.machine['memory'] / 2**30 - 4:.0f}"
    offloads = {
        "--lowvram": ["--lowvram", "--disable-dynamic-vram"],
        "--novram": ["--novram"],
        "--reserve-vram, all but 4 GB": ["--reserve-vram", reserved, "--disable-dynamic-vram"],
        "dynamic VRAM, all but 4 GB reserved": ["--enable-dynamic-vram", "--vram-headroom", reserved],
    }
    for label, options in offloads.items():
        name = f"{with_lora}, {label}"
        if cuda:
            run.serve(options, {name: large(run, label, graphs.BF16, lora=True, same_as=with_lora)})
        elif name not in run.results["cases"]:
            run.record(name, {"skipped": "needs a GPU: on a CPU nothing is offloaded"})
    sage = "Pusa Load, --use-sage-attention"
    if cuda and run.machine["sage"]:
        run.serve(["--use-sage-attention"], {sage: large(run, sage, graphs.BF16, same_as=pusa)})
    elif sage not in run.results["cases"]:
        run.record(sage, {"skipped": "needs a GPU and the package sageattention"})
    run.serve([], {graphs.TRAINING: training})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.in_comfyui", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="results, JSON; a file that exists is continued")
    parser.add_argument("--report", type=Path, help="also write the document")
    parser.add_argument("--folder", type=Path, help="models and latents, needed to continue (default: a temporary one)")
    parser.add_argument("--minutes", type=float, default=8, help="begin no case after so many (default: %(default)g)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    comfyui = find_comfyui()
    if comfyui is None:
        parser.error("no ComfyUI found: set COMFYUI_PATH to a checkout")
    run = Run(comfyui, args.out, args.folder or Path(tempfile.gettempdir()) / "pusa_in_comfyui", args.minutes)
    run_all(run)
    if args.report:
        args.report.write_text(write_report(run.results, TOLERANCE))


if __name__ == "__main__":
    main()
