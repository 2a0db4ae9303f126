"""What the KV cache of given frames saves and costs: ``python -m benchmarks.demo_model.refresh``.

Every task of the workflows that gives frames without noise, on held-out clips, with ``given_frames_refresh`` at 1
(every step), 2, 3, 5 and 0 (only once). Writes ``REFRESH.md``. Nothing else should run meanwhile.
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
from tools.workflows.tasks import TASKS, Workflow

log = logging.getLogger(__name__)

RESULTS = Path(__file__).with_name("REFRESH.md")
REFRESH = (1, 2, 3, 5, 0)
STRENGTH = DEMO_LORA_STRENGTH
GOAL = 1.7  # times faster, for 41 frames continued


@dataclass
class Measured:
    """Of one task at one setting, over the clips."""

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
    """Clips are sampled together. The settings take turns; errors are of all generated frames."""
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
    made = [frame for frame, level in enumerate(given.noise_levels.tolist()) if level == 1]
    exact = decode(latents[1])
    for refresh, result in results.items():
        videos = decode(latents[refresh])
        found = np.array([errors(video, scene, made) for video, scene in zip(videos, scenes, strict=True)])
        result.picture, result.position = found[:, 0], found[:, 1]
        result.difference = np.array([np.abs(a - b).mean() for a, b in zip(videos, exact, strict=True)])
    return results


def cell(values: np.ndarray) -> str:
    return f"{values.mean():.4f} ± {values.std(ddof=1) / len(values) ** 0.5:.4f}"


def faster(results: dict[int, Measured], refresh: int) -> float:
    """How many times faster than at every step, in the median round."""
    pairs = zip(results[1].seconds, results[refresh].seconds, strict=True)
    return statistics.median(every / own for every, own in pairs)


def rows(name: str, given: int, results: dict[int, Measured]) -> list[str]:
    lines = []
    for refresh, result in results.items():
        # clip by clip, for the clips differ more than the settings do
        change = result.picture - results[1].picture
        lines.append(
            f"| {name} ({given} of 21) | {refresh or 'once'} | {faster(results, refresh):.2f} | "
            f"{cell(result.picture)} | {cell(change)} | {result.position.mean():.2f} | {cell(result.difference)} |"
        )
    return lines


def no_loss(result: Measured, exact: Measured) -> bool:
    """Whether the picture's error is not measurably above that at every step: by two standard errors, clip by clip."""
    change = result.picture - exact.picture
    return float(change.mean()) <= 2 * float(change.std(ddof=1)) / len(change) ** 0.5


def recommendation(everything: dict[str, dict[int, Measured]]) -> list[str]:
    """The setting that saves most among those without measurable loss in any task, and what an extension gains."""
    safe = [k for k in REFRESH if all(no_loss(results[k], results[1]) for results in everything.values())]
    extension = everything["extension_41"]
    best = max(safe, key=lambda k: faster(extension, k))
    lossless = [k for k in REFRESH if no_loss(extension[k], extension[1])]
    fastest = max(lossless, key=lambda k: faster(extension, k))
    reached = "reached" if faster(extension, fastest) >= GOAL else "NOT reached"
    return [
        f"Without measurable loss in any task (two standard errors, clip by clip): {', '.join(map(name_of, safe))}. "
        f"**Recommended: {name_of(best)}.** For 41 frames continued, {name_of(fastest)} is "
        f"{faster(extension, fastest):.2f} times faster without measurable loss; the goal of {GOAL} is {reached}.",
    ]


def name_of(refresh: int) -> str:
    return f"given_frames_refresh {refresh}"


def report(everything: dict[str, dict[int, Measured]], given: dict[str, int], clips: int, rounds: int) -> str:
    return "\n".join(
        [
            "# Given frames that are not computed at every step",
            "",
            f"Written by `python -m benchmarks.demo_model.refresh --clips {clips} --rounds {rounds}` ({machine()}); "
            f"the demo model with its LoRA at {STRENGTH:g}, {clips} held-out clips sampled together, {SETTINGS.steps} "
            f"steps, cfg {SETTINGS.cfg:g}.",
            "",
            "*Faster*: of the whole sampling, in the median of rounds in which the settings took turns. *Error*: mean "
            "absolute error of the generated frames against the one right answer (0..1); *more error*: the same less "
            "that at every step, clip by clip; *object*: distance of the object from where it should be (pixels of "
            "64); *different*: mean absolute difference of the video to that at every step. Mean and standard error "
            "over the clips.",
            "",
            "| task (latent frames given) | computed every | times faster | error | more error | object | different |",
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
