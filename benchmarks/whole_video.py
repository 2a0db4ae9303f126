"""A whole video, part by part, and a first video after a cold start: ``python -m benchmarks.whole_video``.

Random weights in the real shapes: UMT5-XXL, the Wan2.1 VAE, the 14B network (4 of its 40 blocks, counted ten times) of
this project with and without 8-bit arithmetic, ComfyUI and diffusers, one process each, in turn; writing the MP4. The
same by the nodes in a ComfyUI server, with this project's network and with ComfyUI's own. Then, in a new process with
the files evicted from the page cache, the time from the command to the end of the first step.

Every figure is stored as soon as it is known and a second call goes on behind the last one; ``--minutes`` ends a call
in time. Writes ``RESULTS-video.md``. Without a GPU everything is small, and the figures mean nothing.
"""

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import video_in_comfyui as in_comfyui
from benchmarks.cases import SIZE_480P, Case
from benchmarks.cold_start import first_step
from benchmarks.forward import Process, available, machine, write_weights
from benchmarks.video_report import MODES, report
from pusa_core import WanConfig, write_video
from pusa_core.media.vae import WanVae
from pusa_core.sampling.keyframes import pixel_length
from tools.comfyui import find_comfyui

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
CUDA = torch.cuda.is_available()
DEVICE, DTYPE = ("cuda", "bfloat16") if CUDA else ("cpu", "float32")
WAN = WanConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=4)
TINY = WanConfig(dim=128, ffn_dim=256, num_heads=1, num_layers=2)
CONFIG, LAYERS, SIZE = (WAN, 40, SIZE_480P) if CUDA else (TINY, 4, (3, 8, 8))
CASE = Case("whole video", CONFIG, DTYPE, (SIZE,), text=512 if CUDA else 16)
UMT5 = {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "d_kv": 64, "vocab_size": 256384}
SMALL_UMT5 = {"d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 1, "d_kv": 64, "vocab_size": 100}
TOKENS = 60  # of a prompt
EIGHT_BIT = ("8-bit attention", "fp8 products", "8-bit attention, fp8 products")


class Results:
    """What is known so far, in a file."""

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self.deadline = path, time.monotonic() + 60 * minutes
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        about = machine(DEVICE, torch.get_num_threads())
        if self.found.get("about") != about:
            self.found = {"about": about, "device": DEVICE, "parts": {}}

    def wants(self, name: str) -> bool:
        """Whether this is neither known nor too late."""
        return "failed" in self.found["parts"].get(name, {"failed": ""}) and time.monotonic() < self.deadline

    def measure(self, name: str, work: Callable[[], Any]) -> None:
        """The result of ``work``, unless it is known or the time is over; a failure is a result too."""
        if not self.wants(name):
            return
        try:
            result = work()
        except Exception as error:  # one part must not end the run
            result = failure(error)
        if CUDA:
            torch.cuda.empty_cache()  # the next part, or another process, needs the memory
        self.record(name, result)

    def record(self, name: str, result: dict[str, Any]) -> None:
        log.info("%s: %s", name, result)
        self.found["parts"][name] = result
        self.path.write_text(json.dumps(self.found, indent=1) + "\n")


def failure(error: Exception) -> dict[str, Any]:
    """The result of a part that failed, in one line."""
    return {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:500]}


def seconds(work: Callable[[], Any], rounds: int = 3) -> dict[str, list[float]]:
    """Of every round, after one to warm up."""
    taken = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        work()
        if CUDA:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return {"seconds": taken[1:], "first": taken[:1]}


def text_encoder() -> torch.nn.Module:
    from transformers import UMT5Config, UMT5EncoderModel

    with torch.device(DEVICE):
        return UMT5EncoderModel(UMT5Config(**(UMT5 if CUDA else SMALL_UMT5))).to(getattr(torch, DTYPE)).eval()


def text() -> dict[str, Any]:
    model, tokens = text_encoder(), torch.randint(50, (1, TOKENS), device=DEVICE)
    with torch.inference_mode():
        return seconds(lambda: model(tokens).last_hidden_state)


class RandomVae(WanVae):
    """The Wan2.1 VAE with random weights."""

    def __init__(self) -> None:
        from diffusers import AutoencoderKLWan

        model = AutoencoderKLWan()
        self.model = model.to(DEVICE).eval().requires_grad_(False)
        shape = (1, -1, 1, 1, 1)
        self.mean, self.std = (
            torch.tensor(values, device=DEVICE).view(shape)
            for values in (model.config.latents_mean, model.config.latents_std)
        )


def frames(length: int) -> Tensor:
    return torch.rand(length, SIZE[1] * 8, SIZE[2] * 8, 3)


def encode() -> dict[str, Any]:
    vae = RandomVae()
    return seconds(lambda: vae.encode(frames(1)))


def decode(dtype: str = "float32", compiled: bool = False) -> dict[str, Any]:
    vae, latents = RandomVae(), torch.randn(1, 16, *SIZE)
    vae.model.to(getattr(torch, dtype))
    if compiled:
        vae.model.decoder.compile()
    return seconds(lambda: vae.decode(latents), rounds=1)


def write(folder: Path) -> dict[str, Any]:
    video = frames(pixel_length(SIZE[0])) * 0.1 + torch.linspace(0.2, 0.7, SIZE[2] * 8)[:, None]  # not noise alone
    return seconds(lambda: write_video(video, folder / "video.mp4"), rounds=2)


def measure_passes(results: Results, weights: Path, rounds: int) -> None:
    """One pass of each network, in turn; those that do not run here say why."""
    names = ["pusa", *(name for name in available() if name in ("comfyui", "diffusers")), *EIGHT_BIT]
    if not any(results.wants(f"pass, {name}") for name in names):
        return
    spec = {"device": DEVICE, "dtype": DTYPE, "threads": torch.get_num_threads(), "weights": str(weights)}
    spec["config"] = asdict(CONFIG)
    taken: dict[str, list[float]] = {}
    failed: dict[str, Exception] = {}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Process(name, spec)) for name in names}
        for index in range(rounds + 1):
            for name in [name for name in names if name not in failed]:
                try:
                    found = workers[name].ask("run", size=SIZE, text=CASE.text, scalar=False, compiled=False, repeats=1)
                except (RuntimeError, OSError) as error:
                    failed[name] = error
                    continue
                if index:
                    taken.setdefault(name, []).extend(found["seconds"])
    for name in names:
        row = failure(failed[name]) if name in failed else {"seconds": taken[name]}
        results.measure(f"pass, {name}", partial(dict, row, of=[CONFIG.num_layers, LAYERS]))


def measure_in_comfyui(results: Results, folder: Path, weights: Path, rounds: int) -> None:
    """The video by the nodes, in both modes with both networks; nothing without a ComfyUI."""
    comfyui = find_comfyui()
    names = {(network, mode): f"in ComfyUI, {network}, {mode}" for network in in_comfyui.NETWORKS for mode in MODES}
    if comfyui is None or not any(results.wants(name) for name in names.values()):
        return
    text = None  # the demo model's encoder: ComfyUI knows UMT5 in its full size alone
    if CUDA:
        full = text_encoder().state_dict()
        text = {key: weight.cpu() for key, weight in full.items() if "embed_tokens" not in key}
        del full
        torch.cuda.empty_cache()
    size = {"length": pixel_length(SIZE[0]), "height": SIZE[1] * 8, "width": SIZE[2] * 8}
    layers = CONFIG.num_layers, LAYERS
    try:
        with in_comfyui.server(comfyui, folder, DEVICE, weights, text) as comfy:
            for (network, mode), name in names.items():
                steps, passes = MODES[mode]
                video = in_comfyui.Video(network, steps, 3.0 if passes == 2 else 1.0, size, own_text=CUDA)
                results.measure(name, partial(in_comfyui.measure, comfy, video, layers, rounds))
    except Exception as error:  # no server, or no models for it
        for name in filter(results.wants, names.values()):
            results.record(name, failure(error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=HERE, help="of the results (default: that of this file)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    results = Results(args.folder / f"video-{DEVICE}.json", args.minutes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = folder / "weights.safetensors"
        write_weights(CASE, DEVICE, weights)
        measure_passes(results, weights, args.rounds)
        measure_in_comfyui(results, folder, weights, args.rounds)
        results.measure("text", text)
        results.measure("encode", encode)
        results.measure("decode", decode)
        results.measure("decode, bf16", lambda: decode("bfloat16"))
        results.measure("write", lambda: write(folder))
        results.measure(
            "cold", lambda: first_step(replace(CASE, config=replace(CONFIG, num_layers=LAYERS)), DEVICE, folder)
        )
        results.measure("decode, compiled", lambda: decode(compiled=True))  # last, for the compiler takes minutes
    (args.folder / "RESULTS-video.md").write_text(report(results.found))


if __name__ == "__main__":
    main()
