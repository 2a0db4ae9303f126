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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.demo_model import tasks
from demo.clips import draw_scene
from demo.training.machine import DEVICE, machine
from demo.training.vae_pool import encode_clips
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
NEEDED = {
    "experts": ("all levels", "high-noise expert", "low-noise expert"),
    "quantised": ("all levels", *QUANTISED),
}
"""The runs that a part of the page compares."""
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


@dataclass(frozen=True)
class HeldOut:
    """Clips that no run was trained on: ``latents [N, 16, F, H, W]``, ``context [N, L, D]``, the first frames alone."""

    latents: Tensor
    context: Tensor
    given: Given


def held_out(clips: int) -> HeldOut:
    scenes = [draw_scene(tasks.FIRST_SCENE + index) for index in range(clips)]
    vae, (task,) = WanVae(VAE, DEVICE), [task for task in TASKS if task.name == "image_to_video"]
    given = tasks.together([tasks.give(vae, task, scene, False) for scene in scenes])
    context = torch.cat([encode_text(scene.caption) for scene in scenes])
    return HeldOut(encode_clips(scenes).to(DEVICE), context.to(DEVICE), given)


@torch.no_grad()
def losses(model: WanModel, clips: HeldOut, noise_range: NoiseRange) -> np.ndarray:
    """By clip, the loss of the frames after a given first one, which is at level 0, over the levels of a range."""
    latents, count = clips.latents, len(clips.latents)
    streams = [generator(0, "short run", index) for index in range(count)]
    noise = torch.stack([torch.randn(latents.shape[1:], generator=stream) for stream in streams])
    low, high = noise_range
    found = []
    for place in range(LEVELS):
        sigmas = torch.full((count, latents.shape[2]), low + (high - low) * (place + 0.5) / LEVELS)
        sigmas[:, 0] = 0.0
        error = squared_errors(model, latents, clips.context, noise.to(DEVICE), sigmas.to(DEVICE))
        found.append(error[:, 1:].mean(dim=1).cpu().numpy())
    return np.mean(found, axis=0)


def video_errors(clips: HeldOut, model: WanModel, low_noise: WanModel | None = None) -> np.ndarray:
    """By clip, the mean absolute error of the latents in image-to-video, but for the given frame."""
    made = generate_latents(
        model, clips.given, clips.context, encode_text(""), tasks.SETTINGS, low_noise_model=low_noise
    )
    return (made[:, :, 1:] - clips.latents[:, :, 1:]).abs().flatten(1).mean(dim=1).cpu().numpy()


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


def experts(loras: dict[str, Path], clips: HeldOut) -> list[str]:
    models = {run: load(loras[run]) for run in NEEDED["experts"]}
    models = {"base, no LoRA": load(), **models}
    found = {run: [losses(model, clips, noise_range) for noise_range in (HIGH, LOW)] for run, model in models.items()}
    one = models["all levels"]
    videos = {
        "base, no LoRA": video_errors(clips, models["base, no LoRA"]),
        "all levels": video_errors(clips, one),
        "both experts": video_errors(clips, models["high-noise expert"], models["low-noise expert"]),
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
        "| image-to-video by | error of the video | minus that of all levels |",
        "|---|---|---|",
        *(f"| {name} | {cell(errors)} | {paired(errors, videos['all levels'])} |" for name, errors in videos.items()),
    ]


def quantised(loras: dict[str, Path], clips: HeldOut) -> list[str]:
    reference = load(loras["all levels"])
    loss, image = losses(reference, clips, FULL_RANGE), video_errors(clips, reference)
    rows = [f"| base as it is | 0 | {cell(loss)} | | {cell(image)} | |"]
    for run in QUANTISED:
        model = load(loras[run])
        own_loss, own_image = losses(model, clips, FULL_RANGE), video_errors(clips, model)
        change = distance(loras[run], loras["all levels"])
        columns = (cell(own_loss), paired(own_loss, loss), cell(own_image), paired(own_image, image))
        rows.append(f"| {run} | {change:.3f} | {' | '.join(columns)} |")
    head = "| trained on | distance of the updates | loss | minus the first | error of the video | minus the first |"
    return [head, "|---|---|---|---|---|---|", *rows]


NOT_MEASURED = ["Not measured."]


def report(parts: dict[str, list[str]], clips: int, steps: int, batch: int) -> str:
    return "\n".join(
        [
            "# Short runs of the demo model",
            "",
            f"Written by `python -m benchmarks.demo_model.short_runs --clips {clips} --steps {steps} --batch {batch}` "
            f"({machine()}). Each run is {steps} steps of {batch} clips from the base model, at rank "
            f"{COMMON['train.rank']}. Measured on {clips} held-out clips: the loss of the frames after a given first "
            f"one, over {LEVELS} noise levels, and the mean absolute error of the latents in image-to-video with "
            f"{tasks.SETTINGS.steps} steps. Mean and standard error over the clips, and over the differences of the "
            f"same clips.",
            "",
            "## Two experts",
            "",
            "Each expert was trained on its side of the boundary, for as many steps as the LoRA of all levels. The "
            "base model of both is the same.",
            "",
            *parts.get("experts", NOT_MEASURED),
            "",
            "## Base in 8 bits",
            "",
            "All LoRAs are measured on the base as it is. *Distance*: that of what two LoRAs add to the weights, "
            "relative to the first; another seed trains on other noise and other clips, from another start.",
            "",
            *parts.get("quantised", NOT_MEASURED),
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
    clips, parts = held_out(args.clips), {}
    for part, compare in (("experts", experts), ("quantised", quantised)):
        loras = {run: train(run, args.folder, args.steps, args.batch) for run in NEEDED[part]}
        parts[part] = compare(loras, clips)
        args.output.write_text(report(parts, args.clips, args.steps, args.batch), encoding="utf-8")
        log.info("wrote %s of %s", part, args.output)


if __name__ == "__main__":
    main()
