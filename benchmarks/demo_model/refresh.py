"""Speed-up and error of the KV cache for given frames: ``python -m benchmarks.demo_model.refresh``.

Runs every task of the workflows with noise-free given frames on held-out clips, with ``given_frames_refresh`` at 1
(every step), 2, 3, 5 and 0 (only once). Writes ``REFRESH.md``. Run it on an otherwise idle machine.
"""

import argparse
import logging
import statistics
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.demo_model.measure import decode, load_demo
from benchmarks.demo_model.tasks import FIRST_SCENE, SETTINGS, errors, give
from demo.clips import Scene, draw_scene
from demo.training.machine import DEVICE, machine
from pusa_core import WanModel
from pusa_core.media.demo_text import encode_text
from pusa_core.media.vae import WanVae
from pusa_core.sampling.keyframes import Given
from pusa_core.sampling.pipeline import generate_latents
from pusa_core.weights.demo_files import LORA_STRENGTH as DEMO_LORA_STRENGTH
from pusa_core.weights.demo_files import VAE
from tools.workflows.tasks import TASKS
from tools.workflows.workflow import Workflow

log = logging.getLogger(__name__)

RESULTS = Path(__file__).with_name("REFRESH.md")
REFRESH = (1, 2, 3, 5, 0)
STRENGTH = DEMO_LORA_STRENGTH
GOAL = 1.7  # speed-up for extension from 41 frames


@dataclass
class Measured:
    """Results of one task at one setting, per clip."""

    seconds: list[float] = field(default_factory=list)
    picture: np.ndarray = field(default_factory=lambda: np.zeros(0))
    position: np.ndarray = field(default_factory=lambda: np.zeros(0))
    difference: np.ndarray = field(default_factory=lambda: np.zeros(0))


def sample(model: WanModel, given: Given, context: Tensor, refresh: int) -> tuple[Tensor, float]:
    started = time.perf_counter()
    settings = replace(SETTINGS, given_frames_refresh=refresh)
    latents = generate_latents(model, given, context, encode_text(""), settings)
    return latents, time.perf_counter() - started


def measure_task(model: WanModel, vae: WanVae, task: Workflow, scenes: list[Scene], rounds: int) -> dict[int, Measured]:
    """All clips form one batch. Settings are interleaved; errors are over all generated frames."""
    each = [give(vae, task, scene, False) for scene in scenes]
    given = replace(each[0], latents=torch.cat([one.latents for one in each]))
    context = torch.cat([encode_text(scene.caption) for scene in scenes])
    results = {refresh: Measured() for refresh in REFRESH}
    latents = {}
    for index in range(rounds + 1):
        for refresh, result in results.items():
            latents[refresh], seconds = sample(model, given, context, refresh)
            if index:  # the first round warms up
                result.seconds.append(seconds)
    generated = [frame for frame, level in enumerate(given.noise_levels.tolist()) if level == 1]
    exact = decode(latents[1])
    for refresh, result in results.items():
        videos = decode(latents[refresh])
        found = np.array([errors(video, scene, generated) for video, scene in zip(videos, scenes, strict=True)])
        result.picture, result.position = found[:, 0], found[:, 1]
        result.difference = np.array([np.abs(a - b).mean() for a, b in zip(videos, exact, strict=True)])
    return results


def cell(values: np.ndarray) -> str:
    return f"{values.mean():.4f} ± {values.std(ddof=1) / len(values) ** 0.5:.4f}"


def faster(results: dict[int, Measured], refresh: int) -> float:
    """Speed-up over refresh 1, in the median round."""
    pairs = zip(results[1].seconds, results[refresh].seconds, strict=True)
    return statistics.median(every / own for every, own in pairs)


def rows(name: str, given: int, results: dict[int, Measured]) -> list[str]:
    lines = []
    for refresh, result in results.items():
        # paired by clip, because clips differ more than settings do
        change = result.picture - results[1].picture
        lines.append(
            f"| {name} ({given} of 21) | {refresh or 'once'} | {faster(results, refresh):.2f} | "
            f"{cell(result.picture)} | {cell(change)} | {result.position.mean():.2f} | {cell(result.difference)} |"
        )
    return lines


def no_loss(result: Measured, exact: Measured) -> bool:
    """Whether the image error exceeds that at refresh 1 by at most two standard errors, paired by clip."""
    change = result.picture - exact.picture
    return float(change.mean()) <= 2 * float(change.std(ddof=1)) / len(change) ** 0.5


def recommendation(everything: dict[str, dict[int, Measured]]) -> list[str]:
    """The fastest setting without measurable loss in any task, and the speed-up for an extension."""
    safe = [k for k in REFRESH if all(no_loss(results[k], results[1]) for results in everything.values())]
    extension = everything["extension_41"]
    best = max(safe, key=lambda k: faster(extension, k))
    lossless = [k for k in REFRESH if no_loss(extension[k], extension[1])]
    fastest = max(lossless, key=lambda k: faster(extension, k))
    reached = "reached" if faster(extension, fastest) >= GOAL else "NOT reached"
    return [
        f"No measurable loss in any task (two standard errors, paired by clip): {', '.join(map(name_of, safe))}. "
        f"**Recommended: {name_of(best)}.** For extension from 41 frames, {name_of(fastest)} is "
        f"{faster(extension, fastest):.2f} times faster without measurable loss; the goal of {GOAL} is {reached}.",
    ]


def name_of(refresh: int) -> str:
    return f"given_frames_refresh {refresh}"


def report(everything: dict[str, dict[int, Measured]], given: dict[str, int], clips: int, rounds: int) -> str:
    return "\n".join(
        [
            "# The KV cache for given frames: speed-up and error",
            "",
            f"Written by `python -m benchmarks.demo_model.refresh --clips {clips} --rounds {rounds}` ({machine()}); "
            f"the demo model with its LoRA at {STRENGTH:g}, a batch of {clips} held-out clips, {SETTINGS.steps} "
            f"steps, cfg {SETTINGS.cfg:g}.",
            "",
            "*Refresh*: given frames are computed every n-th step. *Speed-up*: of the whole sampling, median over "
            "interleaved rounds. *Error*: mean absolute error of the generated frames with respect to the ground truth "
            "(0..1); *added error*: its increase over refresh 1, paired by clip; *position*: position error of the "
            "object (pixels of 64); *difference*: mean absolute difference from the video at refresh 1. Mean and "
            "standard error over the clips.",
            "",
            "| task (given latent frames) | refresh | speed-up | error | added error | position | difference |",
            "|---|---|---|---|---|---|---|",
            *(line for name, results in everything.items() for line in rows(name, given[name], results)),
            "",
            *recommendation(everything),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    vae, model = WanVae(VAE, DEVICE), load_demo(STRENGTH)
    scenes = [draw_scene(FIRST_SCENE + index) for index in range(args.clips)]
    everything, given = {}, {}
    for task in TASKS:
        levels = give(vae, task, scenes[0], False).noise_levels
        given[task.name] = int((levels == 0).sum())
        if not given[task.name]:
            continue
        everything[task.name] = measure_task(model, vae, task, scenes, args.rounds)
        log.info("%s: done", task.name)
    args.out.write_text(report(everything, given, args.clips, args.rounds))


if __name__ == "__main__":
    main()
