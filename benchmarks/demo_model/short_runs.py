"""Short trainings of the demo model that differ in one option each; writes ``SHORT_RUNS.md``.

``python -m benchmarks.demo_model.short_runs`` needs training clips (``python -m demo.dataset demo/.cache/clips --clips
500``). Every run starts from the base model, with the same seed. A script that was stopped goes on where it was.

*Experts*: two LoRAs, each trained on its own side of Wan2.2's boundary, against one trained on all noise levels.
*Quantised base*: the LoRA trained on the base in fp8 or int8, against the one trained on the base as it is.
"""

import argparse
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.demo_model import tasks
from demo.clips import Scene, draw_scene
from demo.training.machine import DEVICE, machine
from demo.training.vae_pool import decode_clips, encode_clips
from pusa_core import Given, WanModel, load_lora, load_model
from pusa_core.media.demo_text import encode_text
from pusa_core.media.vae import WanVae
from pusa_core.sampling.denoise import EXPERT_BOUNDARY
from pusa_core.sampling.pipeline import generate_latents
from pusa_core.training.data import generator
from pusa_core.training.objective import FULL_RANGE, NoiseRange, squared_errors
from pusa_core.weights.demo_files import VAE
from tools.workflows.tasks import TASKS

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HIGH, LOW = (EXPERT_BOUNDARY, 1.0), (0.0, EXPERT_BOUNDARY)
LEVELS = 5  # in a range, where the loss is measured
RUNS: dict[str, dict[str, object]] = {
    "all levels": {},
    "high-noise expert": {"train.noise_range": list(HIGH)},
    "low-noise expert": {"train.noise_range": list(LOW)},
    "base in fp8": {"model.base_dtype": "fp8"},
    "base in int8": {"model.base_dtype": "int8"},
    "another seed": {"train.seed": 1},
}
QUANTISED = ("base in fp8", "base in int8", "another seed")
COMMON: dict[str, object] = {"train.rank": 32, "train.lr": 1e-3, "train.warmup": 10}


def train(run: str, folder: Path, steps: int, batch: int) -> Path:
    """The LoRA of a run, trained by the trainer's own command."""
    output = folder / run.replace(" ", "_")
    options = COMMON | {"train.steps": steps, "train.batch": batch, "output.folder": output} | RUNS[run]
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "pusa_core.training", "--config", "configs/demo.toml", *flags, "--resume"]
    subprocess.run([*command, "--output.save_every=50", "--output.validate_every=0"], cwd=ROOT, check=True)
    return output / "pusa_demo_lora.safetensors"


def load(*files: Path) -> WanModel:
    return load_model("demo", [(file, 1.0) for file in files], device=DEVICE, dtype=torch.float32)


@torch.no_grad()
def losses(model: WanModel, scenes: list[Scene], noise_range: NoiseRange) -> np.ndarray:
    """By scene, the loss of the frames after a given first one, which is at level 0, over the levels of a range."""
    latents = encode_clips(scenes).to(DEVICE)
    context = torch.cat([encode_text(scene.caption) for scene in scenes]).to(DEVICE)
    noise = torch.stack(
        [torch.randn(latents.shape[1:], generator=generator(0, "short run", i)) for i in range(len(scenes))]
    )
    low, high = noise_range
    found = []
    for place in range(LEVELS):
        sigmas = torch.full((len(scenes), latents.shape[2]), low + (high - low) * (place + 0.5) / LEVELS)
        sigmas[:, 0] = 0.0
        error = squared_errors(model, latents, context, noise.to(DEVICE), sigmas.to(DEVICE))
        found.append(error[:, 1:].mean(dim=1).cpu().numpy())
    return np.mean(found, axis=0)


def given_first(scenes: list[Scene]) -> Given:
    """The first frame of each scene, as the workflow of image-to-video has it."""
    vae, (task,) = WanVae(VAE, DEVICE), [task for task in TASKS if task.name == "image_to_video"]
    given = [tasks.give(vae, task, scene, False) for scene in scenes]
    return tasks.together(given)


def video_errors(given: Given, scenes: list[Scene], model: WanModel, low_noise: WanModel | None = None) -> np.ndarray:
    """By scene, the mean absolute error (0..1) of the image in image-to-video, but for the given frame."""
    context = torch.cat([encode_text(scene.caption) for scene in scenes])
    made = generate_latents(model, given, context, encode_text(""), tasks.SETTINGS, low_noise_model=low_noise)
    videos = decode_clips(made)
    truth = torch.stack([torch.from_numpy(scene.render()) for scene in scenes])
    return (videos[:, 1:] - truth[:, 1:]).abs().flatten(1).mean(dim=1).numpy()


def updates(file: Path) -> dict[str, Tensor]:
    return {name: layer.scale * layer.up.float() @ layer.down.float() for name, layer in load_lora(file).layers.items()}


def distance(one: Path, other: Path) -> float:
    """The difference of two LoRAs' updates of the weights, relative to those of the second one."""
    left, right = updates(one), updates(other)
    difference = sum((left[name] - right[name]).square().sum() for name in right)
    return float((difference / sum(value.square().sum() for value in right.values())) ** 0.5)


def cell(values: np.ndarray) -> str:
    return f"{values.mean():.4f} ± {values.std(ddof=1) / len(values) ** 0.5:.4f}"


def paired(values: np.ndarray, reference: np.ndarray) -> str:
    """The mean difference of the same clips, and its standard error."""
    change = values - reference
    return f"{change.mean():+.4f} ± {change.std(ddof=1) / len(change) ** 0.5:.4f}"


def experts(loras: dict[str, Path], scenes: list[Scene], given: Given) -> list[str]:
    models = {run: load(loras[run]) for run in ("all levels", "high-noise expert", "low-noise expert")}
    models = {"base, no LoRA": load(), **models}
    found = {run: [losses(model, scenes, noise_range) for noise_range in (HIGH, LOW)] for run, model in models.items()}
    one = models["all levels"]
    videos = {
        "base, no LoRA": video_errors(given, scenes, models["base, no LoRA"]),
        "all levels": video_errors(given, scenes, one),
        "both experts": video_errors(given, scenes, models["high-noise expert"], models["low-noise expert"]),
    }
    reference = found["all levels"]
    return [
        f"| LoRA | loss above {EXPERT_BOUNDARY:g} | minus that of all levels | loss below | minus that of all levels |",
        "|---|---|---|---|---|",
        *(
            f"| {run} | {cell(high)} | {paired(high, reference[0])} | {cell(low)} | {paired(low, reference[1])} |"
            for run, (high, low) in found.items()
        ),
        "",
        "| image-to-video by | error of the image | minus that of all levels |",
        "|---|---|---|",
        *(f"| {name} | {cell(errors)} | {paired(errors, videos['all levels'])} |" for name, errors in videos.items()),
    ]


def quantised(loras: dict[str, Path], scenes: list[Scene], given: Given) -> list[str]:
    reference = load(loras["all levels"])
    loss, image = losses(reference, scenes, FULL_RANGE), video_errors(given, scenes, reference)
    rows = [f"| base as it is | 0 | {cell(loss)} | | {cell(image)} | |"]
    for run in QUANTISED:
        model = load(loras[run])
        own_loss, own_image = losses(model, scenes, FULL_RANGE), video_errors(given, scenes, model)
        change = distance(loras[run], loras["all levels"])
        columns = (cell(own_loss), paired(own_loss, loss), cell(own_image), paired(own_image, image))
        rows.append(f"| {run} | {change:.3f} | {' | '.join(columns)} |")
    head = "| trained on | distance of the updates | loss | minus the first | error of the image | minus the first |"
    return [head, "|---|---|---|---|---|---|", *rows]


def report(parts: dict[str, list[str]], clips: int, steps: int, batch: int) -> str:
    return "\n".join(
        [
            "# Short runs of the demo model",
            "",
            f"Written by `python -m benchmarks.demo_model.short_runs --clips {clips} --steps {steps} --batch {batch}` "
            f"({machine()}). Each run is {steps} steps of {batch} clips from the base model, at rank "
            f"{COMMON['train.rank']}. Measured on {clips} held-out clips: the loss of the frames after a given first "
            f"one, over {LEVELS} noise levels, and the mean absolute error of the image (0..1) in image-to-video with "
            f"{tasks.SETTINGS.steps} steps. Mean and standard error over the clips, and over the differences of the "
            f"same clips.",
            "",
            "## Two experts",
            "",
            "Each expert was trained on its side of the boundary, for as many steps as the LoRA of all levels. The "
            "base model of both is the same.",
            "",
            *parts["experts"],
            "",
            "## Base in 8 bits",
            "",
            "All LoRAs are measured on the base as it is. *Distance*: that of what two LoRAs add to the weights, "
            "relative to the first; another seed trains on other noise and other clips, from another start.",
            "",
            *parts["quantised"],
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "short")
    parser.add_argument("--output", type=Path, default=HERE / "SHORT_RUNS.md")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    loras = {run: train(run, args.folder, args.steps, args.batch) for run in RUNS}
    scenes = [draw_scene(tasks.FIRST_SCENE + index) for index in range(args.clips)]
    given = given_first(scenes)
    parts = {"experts": experts(loras, scenes, given), "quantised": quantised(loras, scenes, given)}
    args.output.write_text(report(parts, args.clips, args.steps, args.batch), encoding="utf-8")
    log.info("wrote %s", args.output)


if __name__ == "__main__":
    main()
