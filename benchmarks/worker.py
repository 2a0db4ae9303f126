"""A worker process that runs one network on command; started by ``benchmarks.forward``.

``python benchmarks/worker.py VARIANT SPEC``, with the Python and working directory that the variant needs. Reads one
JSON command per line and replies to each with one line. ``SPEC`` is JSON: device, dtype, threads, config, weights (a
file).
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

PACK = Path(__file__).resolve().parents[1]
SAMPLER_STEPS = 20
MATMUL = 8192


class Worker:
    def __init__(self, variant: str, spec: dict[str, Any]) -> None:
        import torch
        from safetensors.torch import load_file

        from benchmarks.variants import BUILD, EIGHT_BIT
        from pusa_core import WanConfig

        self.torch = torch
        torch.set_num_threads(spec["threads"])
        self.cuda = spec["device"].startswith("cuda")
        self.device, self.dtype = torch.device(spec["device"]), getattr(torch, spec["dtype"])
        self.config = WanConfig(**{**spec["config"], "patch_size": tuple(spec["config"]["patch_size"])})
        weights = {name: x.to(self.dtype) for name, x in load_file(spec["weights"], device=spec["device"]).items()}
        self.network: Any = {**BUILD, **EIGHT_BIT}[variant](self.config, weights)
        self.compiled: Any = None

    def inputs(self, size: list[int], scalar: bool, text: int) -> tuple[Any, Any, Any]:
        """Latents ``[1, C, F, H, W]``, timesteps, context; drawn on the CPU, identical for all variants."""
        torch = self.torch
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(1, self.config.in_dim, *size, generator=generator)
        context = torch.randn(1, text, self.config.text_dim, generator=generator)
        timestep = torch.linspace(1000, 200, size[0])[None]
        timestep[0, 0] = 0.0
        if scalar:
            timestep = torch.full((1,), 800.0)
        return latents.to(self.device, self.dtype), timestep.to(self.device), context.to(self.device, self.dtype)

    def wait(self) -> None:
        if self.cuda:
            self.torch.cuda.synchronize()

    def seconds(self, function: Callable[[], Any]) -> float:
        self.wait()
        started = time.perf_counter()
        function()
        self.wait()
        return time.perf_counter() - started

    def select_network(self, compiled: bool) -> Any:
        if compiled and self.compiled is None:
            self.compiled = self.torch.compile(self.network, dynamic=False)
        return self.compiled if compiled else self.network

    def run(self, size: list[int], text: int, scalar: bool, compiled: bool, repeats: int) -> dict[str, Any]:
        arguments, network = self.inputs(size, scalar, text), self.select_network(compiled)
        if self.cuda:
            network(*arguments)  # warm-up: reallocates the memory released below
        taken = [self.seconds(lambda: network(*arguments)) for _ in range(repeats)]
        if self.cuda:
            self.torch.cuda.empty_cache()  # the other processes need the memory
        return {"seconds": taken}

    def output(self, size: list[int], text: int, path: str) -> dict[str, Any]:
        """Write the network's output to a file."""
        self.torch.save(self.network(*self.inputs(size, False, text)).float().cpu(), path)
        return {}

    def memory(self, size: list[int], text: int, compiled: bool) -> dict[str, Any]:
        """Peak memory during a step minus the level before it, in bytes."""
        from benchmarks.memory import reset_peak, resident

        arguments, network = self.inputs(size, False, text), self.select_network(compiled)
        if self.cuda:
            network(*arguments)
            self.torch.cuda.reset_peak_memory_stats()
            before = self.torch.cuda.memory_allocated()
            network(*arguments)
            peak = self.torch.cuda.max_memory_allocated() - before
            self.torch.cuda.empty_cache()
            return {"peak": peak}
        network(*self.inputs([2, 4, 4], False, 8))  # one-time initialisation
        reset_peak()
        before = resident("VmRSS")
        network(*arguments)
        return {"peak": resident("VmHWM") - before}

    def parts(self, size: list[int], text: int) -> dict[str, Any]:
        """Seconds of the parts that depend on the text alone, and of the time embedding; lower bound only."""
        _, timestep, context = self.inputs(size, False, text)
        measured = {"text": lambda: self.network.text_keys(context), "time": lambda: self.network.time(timestep)}
        return {name: statistics.median(self.seconds(part) for _ in range(5)) for name, part in measured.items()}

    def sampler(self, size: list[int]) -> dict[str, Any]:
        """Seconds per step of the sampler itself, without the network."""
        from pusa_core import euler_sample, flow_sigmas, sigma_table

        latents = self.inputs(size, False, 1)[0].float()
        velocity = self.torch.randn_like(latents)
        levels = self.torch.ones(size[0])
        levels[0] = 0
        table = sigma_table(flow_sigmas(SAMPLER_STEPS), levels)
        runs = [self.seconds(lambda: euler_sample(lambda *_: velocity, latents, table)) for _ in range(5)]
        return {"seconds": statistics.median(runs) / SAMPLER_STEPS}

    def cached(self, size: list[int], text: int) -> dict[str, Any]:
        """Time of a step with cached keys and values of 41 of 81 frames, relative to a full step."""
        from pusa_core.model.kv_cache import FrozenFrames, KVCache

        arguments = self.inputs(size, False, text)
        given = round(size[0] * 11 / 21)
        cache = KVCache(FrozenFrames(tuple(range(given)), tuple(range(given, size[0])), 0))
        step = partial(cache.velocity, self.network, self.network.blocks, *arguments)
        step()  # fills the cache
        pairs = [(self.seconds(lambda: self.network(*arguments)), self.seconds(step)) for _ in range(3)]
        return {"ratio": statistics.median(part / full for full, part in pairs), "frames": given}

    def peak(self) -> dict[str, Any]:
        """FLOPs per second of a large matmul."""
        a, b = (self.torch.randn(MATMUL, MATMUL, device=self.device, dtype=self.dtype) for _ in range(2))
        a @ b
        return {"flops": 2 * MATMUL**3 / statistics.median(self.seconds(lambda: a @ b) for _ in range(10))}

    def backends(self, size: list[int]) -> dict[str, Any]:
        """Seconds of attention over all tokens with each available PyTorch backend."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        tokens = size[0] * size[1] * size[2] // 4
        shape = (1, self.config.num_heads, tokens, self.config.head_dim)
        q, k, v = (self.torch.randn(shape, device=self.device, dtype=self.dtype) for _ in range(3))
        attend = self.torch.nn.functional.scaled_dot_product_attention

        def timed() -> float:
            attend(q, k, v)
            return statistics.median(self.seconds(lambda: attend(q, k, v)) for _ in range(5))

        found = {"default": timed()}
        for name in ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION"):
            try:
                with sdpa_kernel(getattr(SDPBackend, name)):
                    found[name.lower()] = timed()
            except (RuntimeError, AttributeError):  # not in this build, or unsupported shape
                continue
        return found


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # stdout is for replies only; libraries may print
    variant, spec = sys.argv[1], json.loads(sys.argv[2])
    if variant != "comfyui":
        sys.path.insert(0, str(PACK))
    else:
        sys.path[:0] = [str(Path.cwd())]
        sys.path.append(str(PACK))  # last, because both have a module called nodes
        from comfy.cli_args import args

        args.cpu = spec["device"] == "cpu"  # before any other import from ComfyUI
        args.use_pytorch_cross_attention = True  # as in all variants, and ComfyUI's default on a GPU
    worker = Worker(variant, spec)
    with worker.torch.inference_mode():
        for line in sys.stdin:
            command = json.loads(line)
            try:
                answer = getattr(worker, command.pop("op"))(**command)
            except Exception as error:  # a failure of one network must not stop the measurement
                answer = {"error": f"{type(error).__name__}: {error}"[:2000]}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
