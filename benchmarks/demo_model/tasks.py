"""Measure every task of the workflows on held-out clips and write ``TASKS.md`` with its contact sheet.

``python -m benchmarks.demo_model.tasks``: about ten minutes on two CPU cores. Caption and given frames together
determine the clip, so every result is compared with the one right answer.
"""

import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.demo_model.command import read_arguments
from benchmarks.demo_model.judge import LOST, look
from benchmarks.demo_model.measure import decode, load_demo, picture
from demo.clips import Scene, draw_scene
from demo.training.machine import DEVICE, machine
from pusa_core import Given, WanModel, pixel_frames_of
from pusa_core.media.demo_text import encode_text
from pusa_core.media.vae import WanVae
from pusa_core.sampling.pipeline import Keyframe, Settings, encode_keyframes, generate_latents
from pusa_core.weights.demo_files import LORA_STRENGTH as DEMO_LORA_STRENGTH
from pusa_core.weights.demo_files import VAE
from tools.workflows.tasks import TASKS, Workflow

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
FIRST_SCENE = 1000  # demo/measure.py takes those from 0, training those from 10000
MODELS = {"base": 0.0, "LoRA": DEMO_LORA_STRENGTH}
ALONE = "start_end, last frame encoded alone"
SETTINGS = Settings(width=64, height=64)


def give(vae: WanVae, task: Workflow, scene: Scene, end_alone: bool) -> Given:
    """The task's frames of a scene, placed and at their noise levels, as the workflow's nodes do it."""
    keyframes = [
        Keyframe(torch.from_numpy(scene.render(range(given.first, given.first + given.length))), given.position)
        for given in task.given
    ]
    placed = encode_keyframes(vae, keyframes, SETTINGS, task.noise_levels)
    if not end_alone:
        return placed
    return replace(placed, latents=torch.cat([placed.latents[:, :, :-1], vae.encode(keyframes[-1].frames)], dim=2))


def sample(model: WanModel, given: list[Given], scenes: list[Scene]) -> list[np.ndarray]:
    together = replace(given[0], latents=torch.cat([each.latents for each in given]))
    context = torch.cat([encode_text(scene.caption) for scene in scenes])
    return decode(generate_latents(model, together, context, encode_text(""), SETTINGS))


def places(levels: Tensor) -> tuple[list[int], list[int]]:
    """The generated latent frames beside a given one, and those farthest from all given ones."""
    given = [frame for frame, level in enumerate(levels.tolist()) if level < 1]
    distance = {f: min(abs(f - g) for g in given) for f in range(len(levels)) if f not in given}
    farthest = max(distance.values())
    return [f for f, d in distance.items() if d == 1], [f for f, d in distance.items() if d == farthest]


def errors(video: np.ndarray, scene: Scene, frames: list[int]) -> tuple[float, float]:
    """Of the pixel frames of some latent frames: mean absolute error (0..1), distance of the object (pixels)."""
    times = [pixel for frame in frames for pixel in pixel_frames_of(frame)]
    distance = np.linalg.norm(look(video[times]).centers - scene.positions(times), axis=1)
    return float(np.abs(video[times] - scene.render(times)).mean()), float(np.nan_to_num(distance, nan=LOST).mean())


def measure(clips: int) -> tuple[dict[tuple[str, str], np.ndarray], list[np.ndarray]]:
    """For each task and model ``[clips, 4]``: errors beside the given frames and in the middle; rows for a picture."""
    vae, scenes = WanVae(VAE, DEVICE), [draw_scene(FIRST_SCENE + index) for index in range(clips)]
    rows = {task.name: (task, False) for task in TASKS if task.given}
    rows[ALONE] = (rows["start_end"][0], True)
    results, shown = {}, [scenes[0].render()]
    for label, strength in MODELS.items():
        model = load_demo(strength)
        for name, (task, end_alone) in rows.items():
            given = [give(vae, task, scene, end_alone) for scene in scenes]
            videos = sample(model, given, scenes)
            beside, middle = places(given[0].noise_levels)
            results[name, label] = np.array(
                [[*errors(v, s, beside), *errors(v, s, middle)] for v, s in zip(videos, scenes, strict=True)]
            )
            log.info("%s, %s: %s", name, label, results[name, label].mean(axis=0).round(3))
            if strength and not end_alone:
                shown.append(videos[0])
    return results, shown


def report(results: dict[tuple[str, str], np.ndarray], clips: int, seconds: float) -> str:
    def cell(name: str, label: str, column: int) -> str:
        values = results[name, label][:, column]
        return f"{values.mean():.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"

    names = dict.fromkeys(name for name, _ in results)
    table = [
        f"| {name} | {label} | " + " | ".join(cell(name, label, column) for column in range(4)) + " |"
        for name in names
        for label in MODELS
    ]
    tasks = ", ".join(name for name in names if name != ALONE)
    return "\n".join(
        [
            "# Every task on the demo model, measured",
            "",
            f"Written by `python -m benchmarks.demo_model.tasks --clips {clips}` in {seconds / 60:.0f} minutes "
            f"({machine()}); {clips} held-out clips (scene seeds from {FIRST_SCENE}), {SETTINGS.steps} steps, "
            f"cfg {SETTINGS.cfg:g}, shift 5. Frames and noise levels are those of the workflows.",
            "",
            "Errors of generated frames against the one right answer: mean absolute error of the picture (0..1), "
            "distance of the object (pixels of 64); mean and standard error over the clips. *Beside*: the latent "
            "frames next to a given one; *middle*: those farthest from all given ones.",
            "",
            "| task | model | picture, beside | object, beside | picture, middle | object, middle |",
            "|---|---|---|---|---|---|",
            *table,
            "",
            "![one clip](pictures/tasks.png)",
            "",
            f"One clip: the truth, then with the LoRA: {tasks}.",
            "",
        ]
    )


def main() -> None:
    args = read_arguments(__doc__, clips=16)
    started = time.monotonic()
    results, shown = measure(args.clips)
    picture(shown, HERE / "pictures" / "tasks.png")
    (HERE / "TASKS.md").write_text(report(results, args.clips, time.monotonic() - started))


if __name__ == "__main__":
    main()
