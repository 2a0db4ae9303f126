"""Kills training runs at random times, also during saves, and compares the result with an uninterrupted run.

    python -m benchmarks.resume_kills --kills 20

Trains the demo model on the CPU, 40 steps per run: with each optimiser, and Wan2.2's two experts in one run. Every
killed and resumed run must match the weights, optimiser state and CSV of the uninterrupted one bit for bit, except for
the seconds per step.
"""

import argparse
import csv
import json
import logging
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from safetensors.torch import load_file

from demo.clips import draw_scene
from pusa_core.media.video import write_video
from pusa_core.training.optimizer import OptimizerName
from pusa_core.weights.demo_files import DIT, VAE

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
SIZE, FRAMES = 64, 13
STEPS = 40
LONGEST = 1200.0  # seconds after which a run counts as hung


def make_clips(folder: Path, count: int = 4) -> Path:
    """Write captioned clips of the demo's moving shapes."""
    folder.mkdir(parents=True)
    for number in range(count):
        scene = draw_scene(number)
        write_video(torch.from_numpy(scene.render(list(range(FRAMES)))), folder / f"clip{number}.mp4")
        (folder / f"clip{number}.txt").write_text(scene.caption)
    return folder


def command(clips: Path, run: Path, *flags: str) -> list[str]:
    """The command line that trains the demo model."""
    options = {
        "model.checkpoint": DIT,
        "model.vae": VAE,
        "model.text_encoder": "demo",
        "model.dtype": "fp32",
        "data.folder": clips,
        "data.width": SIZE,
        "data.height": SIZE,
        "data.frames": FRAMES,
        "train.rank": 8,
        "train.device": "cpu",
        "output.folder": run,
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "pusa_core.training", "--progress=json", *given, *flags]


def hard_flags(steps: int) -> list[str]:
    """Options that enable everything stateful in training."""
    return [
        f"--train.steps={steps}",
        "--train.accumulate=2",
        "--train.dropout=0.1",
        "--train.ema=0.9",
        "--train.warmup=5",
        "--train.schedule=cosine",
        "--train.p_region=0.5",
        "--train.p_history=0.5",
        "--train.p_own_history=0.5",
        "--train.swap_blocks=3",
        "--model.base_dtype=fp8",
        "--data.excerpt=all",
        "--data.lengths=[1, 9]",
        "--data.validation=1",
        "--output.validate_every=7",
        "--output.save_every=3",
    ]


def without(flags: Sequence[str], option: str) -> list[str]:
    return [flag for flag in flags if not flag.startswith(f"--{option}=")]


def variants(steps: int) -> dict[str, list[str]]:
    """The flags of every kind of run. ``adamw8bit`` needs a GPU."""
    hard = hard_flags(steps)
    kinds = {"experts": [*hard, f"--model.low_noise_checkpoint={DIT}", "--train.switch_every=2"]}
    for name in sorted(set(get_args(OptimizerName)) - {"adamw8bit"}):
        # schedule-free keeps an average of its own
        flags = without(hard, "train.ema") if name == "schedulefree" else hard
        kinds[name] = [*flags, f"--train.optimizer={name}", f"--train.lr={1 if name == 'prodigy' else 1e-3}"]
    return kinds


@contextmanager
def started(arguments: Sequence[str]) -> Iterator[subprocess.Popen]:
    """Run a command in the background; it is killed on exit if it is still running."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finish(arguments: Sequence[str]) -> list[dict]:
    """Run a command to completion and return its progress events. Raises ``RuntimeError`` if it fails."""
    with started(arguments) as process:
        out, err = process.communicate(timeout=LONGEST)
        if process.returncode:
            raise RuntimeError(f"exit code {process.returncode}: {err.decode(errors='replace')[-2000:]}")
    return [json.loads(line) for line in out.splitlines()]


@dataclass
class Killer:
    """Kills a process at a random time. ``moments`` counts kills by the phase they hit."""

    dice: random.Random
    moments: dict[str, int]

    def run(self, arguments: Sequence[str], run: Path) -> bool:
        """Start a command and kill it with SIGKILL, unless it ends before that; returns whether it was killed."""
        kinds: dict[str, Callable[[subprocess.Popen], bool]] = {
            "starting": self._starting,
            "training": self._training,
            "saving": lambda process: self._saving(process, run),
        }
        kind = self.dice.choices(list(kinds), weights=[1, 4, 4])[0]
        with started(arguments) as process:
            if not kinds[kind](process) or process.poll() is not None:
                return False
            process.kill()
            process.wait()
        self.moments[kind] = self.moments.get(kind, 0) + 1
        return True

    def _starting(self, process: subprocess.Popen) -> bool:
        time.sleep(self.dice.uniform(0, 2))
        return True

    def _training(self, process: subprocess.Popen) -> bool:
        """After a few steps, at a random point of the next one."""
        steps = self.dice.randint(1, 9)
        for line in process.stdout or ():
            steps -= json.loads(line)["event"] == "step"
            if not steps:
                time.sleep(self.dice.uniform(0, 0.1))
                return True
        return False

    def _saving(self, process: subprocess.Popen, run: Path) -> bool:
        """While a temporary checkpoint exists, or just after."""
        saves = self.dice.randint(1, 3)
        before = {path.name for path in (run / "checkpoints").glob("step_*")}
        seen: set[str] = set()
        while process.poll() is None:
            # also under its final name: on a busy machine the temporary one may exist only between two polls
            names = {path.name for path in (run / "checkpoints").glob("step_*")} - before
            seen |= {name.removesuffix(".partial") for name in names}
            if len(seen) >= saves:
                time.sleep(self.dice.choice([0.0, self.dice.uniform(0, 0.02)]))
                return True
            time.sleep(0.0005)
        return False


def rows_without_seconds(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{name: text for name, text in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def differences(one: Path, other: Path, steps: int) -> list[str]:
    """The differences between two finished runs: tensor names, or the CSV."""
    found = []
    loras = {path.name for run in (one, other) for path in run.glob("*.safetensors")}
    for name in (f"checkpoints/step_{steps:08d}/state.safetensors", *sorted(loras)):
        left, right = (load_file(run / name) for run in (one, other))
        found += sorted(left.keys() ^ right.keys())
        found += [name for name in left.keys() & right.keys() if not torch.equal(left[name], right[name])]
    return found + ["metrics.csv"] * (rows_without_seconds(one) != rows_without_seconds(other))


def run_with_kills(arguments: Sequence[str], run: Path, killer: Killer, kills: int) -> int:
    """Run a command to completion, killing it up to ``kills`` times; returns how often it was killed."""
    done = 0
    while done < kills and killer.run(arguments, run):
        done += 1
    finish(arguments)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="minimum number of kills, over as many runs as it takes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    killer, kills, runs, wrong = Killer(random.Random(args.seed), {}), 0, 0, []
    kinds = variants(STEPS)
    with tempfile.TemporaryDirectory() as name:
        clips = make_clips(Path(name) / "clips")
        for number, (kind, flags) in enumerate(kinds.items()):
            straight = Path(name) / kind
            finish(command(clips, straight, *flags))
            wanted = math.ceil((args.kills - kills) / (len(kinds) - number))
            while wanted > 0:
                run, runs = Path(name) / f"killed{runs}", runs + 1
                killed = run_with_kills(command(clips, run, *flags, "--resume"), run, killer, wanted)
                wrong += (found := differences(straight, run, STEPS))
                kills, wanted = kills + killed, wanted - killed
                log.info("%s, run %d: killed %d times; differs in %s", kind, runs, killed, found or "nothing")
    log.info("%d kills in %d runs, while %s; %d differences", kills, runs, killer.moments, len(wrong))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
