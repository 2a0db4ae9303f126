"""Time and memory of a DiT step compared with other implementations: ``python -m benchmarks.forward``.

Measures, interleaved in one run, with unequal timesteps and the same weights: this project; a lower bound, the matmuls
and attention of a step alone; the public implementation's arithmetic; diffusers; and ComfyUI's own network, if a
ComfyUI is found. Every network runs in its own process. Outputs are compared first. Run it on an otherwise idle
machine. Sizes that are already in ``forward-<profile>.json`` are skipped, so an interrupted run can be resumed; fewer
``--rounds`` take less time. Writes ``RESULTS.md`` and its charts.
"""

import argparse
import json
import logging
import math
import platform
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.cases import CASES, Case
from benchmarks.report import write_results
from benchmarks.variants import BUILD, arithmetic
from pusa_core.weights.checkpoints import expected_shapes
from tools.comfyui import find_comfyui, python_of

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
SCALAR = "pusa, one timestep"
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}  # relative to the largest output; in bf16 every operation rounds
NEEDED = ("limit", "pusa")  # variants that must run


class Process:
    """A worker process with one network."""

    def __init__(self, variant: str, spec: dict[str, Any]) -> None:
        python, folder = sys.executable, HERE.parent
        if variant == "comfyui":
            folder = find_comfyui() or folder
            python = python_of(folder)
        command = [python, str(HERE / "worker.py"), variant, json.dumps(spec)]
        self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):  # it has ended already
                self.process.stdin.close()
        self.process.wait()

    def send(self, op: str, **arguments: Any) -> None:
        if self.process.stdin is None:
            raise RuntimeError("the worker has no pipes")
        try:
            self.process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError("the worker ended; its last output says why") from None

    def receive(self) -> dict[str, Any]:
        """The reply to the last command. Raises ``RuntimeError`` if it failed."""
        answer = self.process.stdout.readline() if self.process.stdout is not None else ""
        if not answer:
            raise RuntimeError("the worker ended; its last output says why")
        found = json.loads(answer)
        if "error" in found:
            raise RuntimeError(found["error"])
        return found

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        self.send(op, **arguments)
        return self.receive()


def write_weights(case: Case, device: str, path: Path) -> None:
    """Write random weights that preserve the scale of activations."""
    generator = torch.Generator(device).manual_seed(0)
    tensors = {}
    for name, shape in expected_shapes(case.config):
        norm = "norm" in name and name.endswith("weight")
        width = math.prod(shape[1:])
        values = torch.empty(shape, device=device)
        values.normal_(float(norm), width**-0.5 if len(shape) > 1 else 0.02, generator=generator)
        tensors[name] = values.to(getattr(torch, case.dtype)).cpu()
    save_file(tensors, path)


def compare(workers: dict[str, Process], case: Case, size: tuple[int, int, int], folder: Path) -> dict[str, float]:
    """Maximum output difference between each network and ours, relative to the largest output.

    Networks that do not run here are removed from ``workers``.
    """
    outputs = {}
    for name in [name for name in workers if name != "limit"]:
        path = folder / f"{name}.pt"
        try:
            workers[name].ask("output", size=size, text=case.text, path=str(path))
        except (RuntimeError, OSError) as error:
            if name in NEEDED:
                raise
            log.warning("%s is left out: %s", name, error)
            del workers[name]
            continue
        outputs[name] = torch.load(path)
    ours = outputs.pop("pusa")
    errors = {name: ((other - ours).abs().max() / ours.abs().max()).item() for name, other in outputs.items()}
    if wrong := {name: error for name, error in errors.items() if not error < TOLERANCE[case.dtype]}:
        raise RuntimeError(f"networks that should agree differ: {wrong}")
    return errors


def compile_all(workers: dict[str, Process], case: Case, size: tuple[int, int, int]) -> list[str]:
    """Compile all networks in parallel; returns the names of those that compile."""
    names = [name for name in workers if name != "limit"]
    for name in names:
        workers[name].send("run", size=size, text=case.text, scalar=False, compiled=True, repeats=1)
    done = []
    for name in names:
        try:
            workers[name].receive()
            done.append(name)
        except RuntimeError as error:
            log.warning("%s cannot be compiled: %s", name, error)
    return done


def time_variants(
    workers: dict[str, Process], case: Case, size: tuple[int, int, int], rounds: int, compiled: list[str]
) -> dict[str, list[float]]:
    """Seconds of each variant in each round; variants are interleaved."""
    taken: dict[str, list[float]] = {}
    for index in range(rounds + 1):
        for name, worker in workers.items():
            modes = [(name, False, False)]
            if name == "pusa":
                modes.append((SCALAR, True, False))
            if name in compiled:
                modes.append((f"{name}, compiled", False, True))
            # the first run after a pause is cold, so the order alternates
            for label, scalar, compile_it in modes[:: 1 if index % 2 else -1]:
                options = {"scalar": scalar, "compiled": compile_it, "repeats": 1}
                seconds = worker.ask("run", size=size, text=case.text, **options)["seconds"]
                if index:  # the first round warms up
                    taken.setdefault(label, []).extend(seconds)
    return taken


def measure_memory(
    workers: dict[str, Process], spec: dict[str, Any], case: Case, size: tuple[int, int, int], compiled: list[str]
) -> dict[str, int]:
    """Peak memory of each network. On a CPU, allocator state persists, so each network gets a new process."""
    peaks = {}
    modes = [(name, False) for name in workers if name != "limit"] + [(name, True) for name in compiled]
    for name, compile_it in modes:
        with ExitStack() as stack:
            cuda = spec["device"] == "cuda"
            worker = workers[name] if cuda else stack.enter_context(Process(name, spec))
            label = f"{name}, compiled" if compile_it else name
            peaks[label] = worker.ask("memory", size=size, text=case.text, compiled=compile_it)["peak"]
    return peaks


def measure_size(
    workers: dict[str, Process], spec: dict[str, Any], case: Case, size: tuple[int, int, int], rounds: int, folder: Path
) -> dict[str, Any]:
    errors = compare(workers, case, size, folder)
    compiled = compile_all(workers, case, size) if size in case.compiled else []
    seconds = time_variants(workers, case, size, rounds, compiled)
    memory = measure_memory(workers, spec, case, size, compiled)
    tokens = size[0] * size[1] * size[2] // 4
    result = {
        "tokens": tokens,
        "flops": arithmetic(case.config, tokens, size[0], case.text),
        "errors": errors,
        "seconds": seconds,
        "memory": memory,
        "parts": workers["limit"].ask("parts", size=size, text=case.text),
        "cached": workers["pusa"].ask("cached", size=size, text=case.text),
        "sampler": workers["pusa"].ask("sampler", size=size)["seconds"],
    }
    if spec["device"] == "cuda":
        result |= {"peak": workers["limit"].ask("peak"), "backends": workers["limit"].ask("backends", size=size)}
    return result


def machine(device: str, threads: int) -> dict[str, Any]:
    """Hardware and software versions."""
    names = {"machine": platform.machine(), "torch": torch.__version__, "threads": threads}
    if device == "cuda":
        names["machine"] = torch.cuda.get_device_name()
    elif (cpu := Path("/proc/cpuinfo")).exists():
        lines = [line for line in cpu.read_text().splitlines() if line.startswith("model name")]
        names["machine"] = lines[0].partition(":")[2].strip() if lines else platform.machine()
    try:
        import diffusers

        names["diffusers"] = diffusers.__version__
    except ImportError:
        pass
    if (comfyui := find_comfyui()) is not None:
        version = comfyui / "comfyui_version.py"
        names["ComfyUI"] = version.read_text().split('"')[1] if version.exists() else "?"
    return names


def available() -> list[str]:
    """The networks available here, in the order in which they are interleaved."""
    versions = machine("cpu", 1)
    needs = {"comfyui": "ComfyUI", "diffusers": "diffusers"}
    return [name for name in BUILD if needs.get(name, "torch") in versions]


def measure(profile: str, rounds: int, threads: int, store: Path) -> dict[str, Any]:
    """Measure all cases of a profile. Results in ``store`` from the same machine and versions are kept."""
    device = "cuda" if profile == "cuda" else "cpu"
    found = json.loads(store.read_text()) if store.exists() else {}
    about = machine(device, threads)
    if found.get("about") != about:
        found = {"about": about, "profile": profile, "cases": {}}
    for case in CASES[profile]:
        done = found["cases"].setdefault(case.name, {})
        missing = [size for size in case.sizes if "x".join(map(str, size)) not in done]
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            folder = Path(name)
            weights = folder / "weights.safetensors"
            write_weights(case, device, weights)
            spec = {"device": device, "dtype": case.dtype, "threads": threads, "config": asdict(case.config)}
            spec["weights"] = str(weights)
            workers = {variant: stack.enter_context(Process(variant, spec)) for variant in available()}
            for size in missing:
                done["x".join(map(str, size))] = measure_size(workers, spec, case, size, rounds, folder)
                store.write_text(json.dumps(found, indent=1) + "\n")
                log.info("%s, %s: done", case.name, size)
    return found


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=CASES, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, default=HERE, help="output folder (default: that of this file)")
    parser.add_argument("--again", action="store_true", help="discard stored results")
    args = parser.parse_args()
    store = args.folder / f"forward-{args.profile}.json"
    if args.again:
        store.unlink(missing_ok=True)
    measure(args.profile, args.rounds, args.threads, store)
    write_results(args.folder)


if __name__ == "__main__":
    main()
