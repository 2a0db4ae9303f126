"""Trains the demo's LoRA further with and without ``train.p_region``, and writes ``REGION_TRAINING.md``.

``python -m benchmarks.demo_model.region_training`` needs the training clips (``python -m demo.dataset
demo/.cache/clips --clips 500``). Both runs start from the LoRA of the demo model and differ in that option alone; both
are measured on held-out clips, on regions and on every task of the workflows. A stopped command goes on where it was.
"""

import argparse
import json
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


def measure(model: WanModel, clips: int) -> dict[str, list[float]]:
    """By task, the mean error of the image in each clip: next to what is given."""
    scenes, vae = [draw_scene(tasks.FIRST_SCENE + index) for index in range(clips)], WanVae(VAE, DEVICE)
    videos = regions.sample(regions.by_tokens, model, scenes, encode_clips(scenes))
    found = {"region": [regions.errors(v, scene.render())[0] for v, scene in zip(videos, scenes, strict=True)]}
    for task in TASKS:
        if task.given:
            given = [tasks.give(vae, task, scene, False) for scene in scenes]
            adjacent, _ = tasks.places(given[0].noise_levels)
            videos = tasks.sample(model, given, scenes)
            found[task.name] = [tasks.errors(v, scene, adjacent)[0] for v, scene in zip(videos, scenes, strict=True)]
    return found


def report(results: dict[str, dict[str, list[float]]], clips: int, steps: int, p_region: float) -> str:
    def cell(values: np.ndarray, signed: bool = False) -> str:
        mean = f"{values.mean():+.4f}" if signed else f"{values.mean():.4f}"
        return f"{mean} ± {values.std(ddof=1) / len(values) ** 0.5:.4f}"

    _, without, regional = results.values()
    rows = []
    for name in without:
        difference = np.array(regional[name]) - np.array(without[name])
        columns = [cell(np.array(found[name])) for found in results.values()]
        rows.append([name, *columns, cell(difference, signed=True)])
    return "\n".join(
        [
            "# Training with regions, measured",
            "",
            f"Written by `python -m benchmarks.demo_model.region_training --clips {clips} --steps {steps} --p-region "
            f"{p_region:g}` ({machine()}). The demo's LoRA, and what {steps} more steps of {BATCH} clips make of it "
            f"with and without `train.p_region`; {clips} held-out clips. Mean absolute error (0..1), mean and standard "
            "error over the clips: of the made half (`region`, as in [REGIONS.md](REGIONS.md)), and of the latent "
            "frames next to given ones. *Difference*: with regions minus without, clip by clip; below 0, regions help.",
            "",
            "| task | " + " | ".join(results) + " | difference |",
            "|---|" + "---|" * (len(results) + 1),
            *("| " + " | ".join(row) + " |" for row in rows),
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
    store = args.folder / f"errors-{args.clips}-{args.steps}-{args.p_region:g}.json"
    results = json.loads(store.read_text()) if store.exists() else {}
    for label, file in loras.items():
        if label in results:
            continue
        model = load_model("demo", [(file, LORA_STRENGTH)], device=DEVICE, dtype=torch.float32)
        results[label] = measure(model, args.clips)
        store.write_text(json.dumps(results))
        log.info("%s: region %.4f", label, np.mean(results[label]["region"]))
    (HERE / "REGION_TRAINING.md").write_text(report(results, args.clips, args.steps, args.p_region))


if __name__ == "__main__":
    main()
