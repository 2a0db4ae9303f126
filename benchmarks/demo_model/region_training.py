"""Trains the demo's LoRA further with and without ``train.p_region``, and writes ``REGION_TRAINING.md``.

``python -m benchmarks.demo_model.region_training`` needs the training clips (``python -m demo.dataset
demo/.cache/clips --clips 2400``). Both runs start from the LoRA of the demo model and differ in that option alone; both
are measured on held-out clips, on regions and on every task of the workflows.
"""

import argparse
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.demo_model import regions, tasks
from demo.clips import draw_scene
from demo.training.machine import DEVICE, machine
from demo.training.vae_pool import encode_clips
from pusa_core import WanModel, load_model
from pusa_core.media.vae import WanVae
from pusa_core.weights.demo_files import LORA, LORA_STRENGTH, VAE
from tools.workflows.tasks import TASKS

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAME = "pusa_demo_lora.safetensors"
RATE, WARM_UP, SHIFT, BATCH = 4e-4, 20, 12, 16  # as in the last run of demo/README.md, at half its rate


def train(folder: Path, steps: int, **more: object) -> Path:
    """The LoRA of one run, trained by the trainer's own command; a run that was stopped goes on.

    ``more``: options such as ``train_p_region=0.3``.
    """
    options = {
        "output.folder": folder,
        "model.init_lora": LORA,
        "train.shift": SHIFT,
        "train.batch": BATCH,
        "train.lr": RATE,
        "train.warmup": min(WARM_UP, steps),
        "train.steps": steps,
    } | {name.replace("_", ".", 1): value for name, value in more.items()}
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "pusa_core.training", "--config", "configs/demo.toml", *flags, "--resume"]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder / NAME


def measure(model: WanModel, clips: int) -> dict[str, np.ndarray]:
    """By task, the mean error of the image in each clip: next to what is given."""
    scenes, vae = [draw_scene(tasks.FIRST_SCENE + index) for index in range(clips)], WanVae(VAE, DEVICE)
    videos = regions.sample(regions.by_tokens, model, scenes, encode_clips(scenes))
    found = {
        "region": np.array([regions.errors(v, scene.render())[0] for v, scene in zip(videos, scenes, strict=True)])
    }
    for task in TASKS:
        if task.given:
            given = [tasks.give(vae, task, scene, False) for scene in scenes]
            adjacent, _ = tasks.places(given[0].noise_levels)
            videos = tasks.sample(model, given, scenes)
            found[task.name] = np.array(
                [tasks.errors(v, scene, adjacent)[0] for v, scene in zip(videos, scenes, strict=True)]
            )
    return found


def report(results: dict[str, dict[str, np.ndarray]], clips: int, steps: int) -> str:
    def cell(values: np.ndarray) -> str:
        return f"{values.mean():.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"

    names = next(iter(results.values()))
    return "\n".join(
        [
            "# Training with regions, measured",
            "",
            f"Written by `python -m benchmarks.demo_model.region_training --clips {clips} --steps {steps}` "
            f"({machine()}). The demo's LoRA, and what {steps} more steps make of it with and without "
            f"`train.p_region`; {clips} held-out clips. Mean absolute error (0..1), mean and standard error over the "
            "clips: of the made half (`region`, as in [REGIONS.md](REGIONS.md)), and of the frames next to given ones.",
            "",
            "| task | " + " | ".join(results) + " |",
            "|---|" + "---|" * len(results),
            *(f"| {name} | " + " | ".join(cell(found[name]) for found in results.values()) + " |" for name in names),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--p-region", type=float, default=0.3)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "regions")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    loras = {"as it is": Path(LORA)}
    for p_region in (0.0, args.p_region):
        label = f"p_region {p_region:g}"
        loras[label] = train(args.folder / f"{p_region:g}", args.steps, train_p_region=p_region)
    results = {}
    for label, file in loras.items():
        model = load_model("demo", [(file, LORA_STRENGTH)], device=DEVICE, dtype=torch.float32)
        results[label] = measure(model, args.clips)
        log.info("%s: region %.3f", label, results[label]["region"].mean())
    (HERE / "REGION_TRAINING.md").write_text(report(results, args.clips, args.steps))


if __name__ == "__main__":
    main()
