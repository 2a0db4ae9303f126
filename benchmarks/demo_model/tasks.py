"""Measures every task of the workflows on held-out clips and writes ``TASKS.md`` with its contact sheet.

``python -m benchmarks.demo_model.tasks`` takes about ten minutes on two CPU cores. Caption and given frames together
determine the clip, so every result is compared with the ground truth.
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
from tools.workflows.tasks import TASKS
from tools.workflows.workflow import Workflow

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
FIRST_SCENE = 1000  # measure.py uses scenes from 0, training uses scenes from 10000
MODELS = {"base": 0.0, "LoRA": DEMO_LORA_STRENGTH}
ALONE = "start_end, last frame encoded alone"
SETTINGS = Settings(width=64, height=64)


def give(vae: WanVae, task: Workflow, scene: Scene, end_alone: bool) -> Given:
    """Encode and place the task's given frames of a scene at their noise levels, like the nodes of the workflow."""
    keyframes = [
        Keyframe(torch.from_numpy(scene.render(range(given.first, given.first + given.length))), given.position)
        for given in task.given
    ]
    placed = encode_keyframes(vae, keyframes, SETTINGS, task.noise_levels)
    if not end_alone:
        return placed
    return replace(placed, latents=torch.cat([placed.latents[:, :, :-1], vae.encode(keyframes[-1].frames)], dim=2))


def together(given: list[Given]) -> Given:
    """The given frames of several scenes as a batch."""
    return replace(given[0], latents=torch.cat([each.latents for each in given]))


def sample(model: WanModel, given: list[Given], scenes: list[Scene]) -> list[np.ndarray]:
    context = torch.cat([encode_text(scene.caption) for scene in scenes])
    return decode(generate_latents(model, together(given), context, encode_text(""), SETTINGS))


def places(levels: Tensor) -> tuple[list[int], list[int]]:
    """The generated latent frames adjacent to a given one, and those farthest from any given one."""
    given = [frame for frame, level in enumerate(levels.tolist()) if level < 1]
    distance = {f: min(abs(f - g) for g in given) for f in range(len(levels)) if f not in given}
    farthest = max(distance.values())
    return [f for f, d in distance.items() if d == 1], [f for f, d in distance.items() if d == farthest]


def errors(video: np.ndarray, scene: Scene, frames: list[int]) -> tuple[float, float]:
    """Mean absolute error (0..1) and position error of the object (pixels) in some latent frames."""
    times = [pixel for frame in frames for pixel in pixel_frames_of(frame)]
    distance = np.linalg.norm(look(video[times]).centers - scene.positions(times), axis=1)
    return float(np.abs(video[times] - scene.render(times)).mean()), float(np.nan_to_num(distance, nan=LOST).mean())


def measure(clips: int) -> tuple[dict[tuple[str, str], np.ndarray], list[np.ndarray]]:
    """Errors ``[clips, 4]`` by task and model, adjacent to given frames and far from them; clips for the figure."""
    vae, scenes = WanVae(VAE, DEVICE), [draw_scene(FIRST_SCENE + index) for index in range(clips)]
    rows = {task.name: (task, False) for task in TASKS if task.given}
    rows[ALONE] = (rows["start_end"][0], True)
    results, shown = {}, [scenes[0].render()]
    for label, strength in MODELS.items():
        model = load_demo(strength)
        for name, (task, end_alone) in rows.items():
            given = [give(vae, task, scene, end_alone) for scene in scenes]
            videos = sample(model, given, scenes)
            adjacent, far = places(given[0].noise_levels)
            results[name, label] = np.array(
                [[*errors(v, s, adjacent), *errors(v, s, far)] for v, s in zip(videos, scenes, strict=True)]
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
            "# All tasks on the demo model, measured",
            "",
            f"Written by `python -m benchmarks.demo_model.tasks --clips {clips}` in {seconds / 60:.0f} minutes "
            f"({machine()}); {clips} held-out clips (scene seeds from {FIRST_SCENE}), {SETTINGS.steps} steps, "
            f"cfg {SETTINGS.cfg:g}, shift 5. Frames and noise levels are those of the workflows.",
            "",
            "Errors of generated frames with respect to the ground truth: mean absolute error of the image (0..1) and "
            "position error of the object (pixels of 64); mean and standard error over the clips. *Adjacent*: latent "
            "frames next to a given one; *far*: those farthest from any given one.",
            "",
            "| task | model | image, adjacent | position, adjacent | image, far | position, far |",
            "|---|---|---|---|---|---|",
            *table,
            "",
            "![one clip](pictures/tasks.png)",
            "",
            f"One clip. Top row: ground truth; then, with the LoRA: {tasks}.",
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
