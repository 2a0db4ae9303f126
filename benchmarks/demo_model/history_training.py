"""Trains the demo's LoRA further on windows of long videos, and measures how far a long video drifts then.

``python -m benchmarks.demo_model.history_training`` draws its clips, trains a LoRA for each of ``RUNS``, which differ
in the named options alone, and measures them by :mod:`benchmarks.demo_model.long_video`. Writes
``HISTORY_TRAINING.md``. A run that was stopped goes on, and a LoRA that was measured is not measured again.
"""

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.demo_model import long_video
from benchmarks.demo_model.long_report import HopMeasures, table
from benchmarks.demo_model.region_training import train
from demo.dataset import FIRST_SCENE, write_dataset
from demo.training.machine import DEVICE, machine
from pusa_core import load_model
from pusa_core.media.vae import WanVae
from pusa_core.media.video import write_video
from pusa_core.sampling.windows import CHUNK
from pusa_core.storage.atomic import write_whole
from pusa_core.weights.demo_files import LORA, LORA_STRENGTH, VAE

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RUNS: Mapping[str, Mapping[str, float]] = {
    "levels of every frame": {},
    "p_history 0.5": {"train_p_history": 0.5},
    "p_history 0.5, p_own_history 0.5": {"train_p_history": 0.5, "train_p_own_history": 0.5},
}
MEASURES = {"background": 3, "colour": 3, "position": 1, "motion": 2}
"""Columns of :class:`HopMeasures` with their digits."""


def measure(lora: Path, plan: long_video.Plan, known: Path) -> list[HopMeasures]:
    """Of the default recipe with this LoRA; kept in ``known``."""
    if known.exists():
        return [HopMeasures(**hop) for hop in json.loads(known.read_text(encoding="utf-8"))]
    model = load_model("demo", [(lora, LORA_STRENGTH)], device=DEVICE, dtype=torch.float32)
    found = long_video.measure(plan, CHUNK, model, WanVae(VAE, DEVICE))
    text = json.dumps([asdict(hop) for hop in found])
    write_whole(known, lambda path: path.write_text(text, encoding="utf-8"))
    return found


def report(results: Mapping[str, Sequence[HopMeasures]], args: argparse.Namespace) -> str:
    options = " ".join(f"--{name} {getattr(args, name)}" for name in ("clips", "steps", "scenes", "hops"))
    lines = [
        "# Training on windows of long videos, measured",
        "",
        f"Written by `python -m benchmarks.demo_model.history_training {options}` ({machine()}). The demo's LoRA, and "
        f"what {args.steps} more steps on {args.clips} clips make of it; means over {args.scenes} held-out scenes, by "
        "the default recipe. *background*, *colour*: mean absolute error, 0..1; *position*: of the object, pixels; "
        "*motion*: its speed over the right one.",
        "",
    ]
    for name, digits in MEASURES.items():
        lines += [f"## {name.capitalize()}", "", *table(results, name, args.hops, digits), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--hops", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "history")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    clips, plan = args.folder / f"clips_{args.clips}", long_video.Plan(args.scenes, args.hops, 6, args.hops)

    def write_clip(frames: object, path: Path) -> None:
        write_video(torch.as_tensor(frames), path)

    write_dataset(clips, FIRST_SCENE, args.clips, write_clip, write_whole, windows=True)
    results = {}
    for label, options in {"as it is": None, **RUNS}.items():
        folder = args.folder / f"{label.replace(' ', '_').replace(',', '')}_{args.steps}"
        folder.mkdir(parents=True, exist_ok=True)
        lora = Path(LORA)
        if options is not None:
            lora = train(folder, args.steps, data_folder=clips, data_caption_dropout=0.2, **options)
        results[label] = measure(lora, plan, folder / f"drift_{args.scenes}_{args.hops}.json")
        log.info("%s: background %.3f at the last hop", label, results[label][-1].background)
        (HERE / "HISTORY_TRAINING.md").write_text(report(results, args), encoding="utf-8")


if __name__ == "__main__":
    main()
