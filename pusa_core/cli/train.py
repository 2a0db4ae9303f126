"""``python -m pusa_core.training``: a folder of clips -> a LoRA."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..sampling.pipeline import Vae
from ..training.config import SECTIONS, Config
from ..training.config_file import read_config, to_toml
from ..training.estimate import Estimate, estimate
from ..training.files import SaveError, write_whole
from ..training.launch import launch
from ..training.loop import Trainer, result_path
from ..training.metrics import plot_path
from ..training.network import read_source
from ..training.prepare import LoadText, LoadVae, Preparation
from ..training.report import BarReport, JsonReport, Report, Silent
from ..training.resume import Saved, check_same, newest_checkpoint, run_identity
from ..training.setup import build_setup
from ..training.stop import Stopped, StopSwitch

log = logging.getLogger(__name__)

BAD_INPUT, CRASH, STOPPED = 2, 1, 130
GIB = 2**30


def wan_vae(path: str, device: torch.device, dtype: torch.dtype) -> Vae:
    from ..media.vae import WanVae  # needs the standalone extra

    return WanVae(path, device, dtype)


def umt5(path: str, device: torch.device, dtype: torch.dtype) -> Callable[[str], Tensor]:
    from ..media.umt5 import Umt5Encoder  # needs the standalone extra

    return Umt5Encoder(path, device, dtype)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see --help")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m pusa_core.training", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="the options; flags override it")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in output.folder")
    parser.add_argument("--cache-only", action="store_true", help="encode the clips and stop")
    parser.add_argument("--estimate", action="store_true", help="say how much memory and time it takes, and stop")
    parser.add_argument("--progress", choices=("bar", "json"), default="bar", help="json: one object a line on stdout")
    parser.add_argument("--stop-on-stdin-close", action="store_true", help="stop as by Ctrl-C when stdin is closed")
    for section, kind in SECTIONS.items():
        group = parser.add_argument_group(f"[{section}]")
        for entry in fields(kind):
            text = entry.metadata["help"].replace("%", "%%")
            group.add_argument(f"--{section}.{entry.name}", metavar="VALUE", help=text)
    return parser


def parse_arguments(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Config]:
    args, rest = build_parser().parse_known_args(arguments)
    given = {name: value for name, value in vars(args).items() if "." in name and value is not None}
    for text in rest:  # refused with the nearest known name
        given[text.removeprefix("--").partition("=")[0]] = text.partition("=")[2]
    return args, read_config(args.config, given)


def main(
    arguments: Sequence[str] | None = None, *, load_vae: LoadVae = wan_vae, load_text_encoder: LoadText = umt5
) -> int:
    """Run the command and return its exit code: 0, 130 when stopped, 2 for bad input, 1 for a crash.

    ``load_vae(path, device, dtype)`` and ``load_text_encoder(path, device, dtype)`` load what encodes clips and
    captions and decodes samples; they are called only when something has to be encoded or decoded.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    switch = StopSwitch()
    try:
        args, config = parse_arguments(arguments)
        with switch.listening(on_stdin_close=args.stop_on_stdin_close):
            return run(args, config, load_vae, load_text_encoder, switch)
    except (ValueError, OSError, ImportError) as error:
        return _fail(error, BAD_INPUT)
    except SaveError as error:
        return _fail(error, CRASH)
    except torch.OutOfMemoryError as error:
        log.exception("out of memory")
        hint = (
            "lower train.batch, data.frames or the size, or turn on train.offload_checkpoints and train.offload_weights"
        )
        return _fail(f"the GPU's memory is full; {hint} ({error})", CRASH)
    except Exception as error:
        log.exception("the training crashed")
        return _fail(f"{type(error).__name__}: {error}", CRASH)


def _fail(error: object, code: int) -> int:
    sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    return code


def run(args: argparse.Namespace, config: Config, load_vae: LoadVae, load_text: LoadText, switch: StopSwitch) -> int:
    process = launch(config.train)
    report: Report = Silent() if process.rank else JsonReport() if args.progress == "json" else BarReport()
    trainer = None
    try:
        if process.world == 1:
            switch.allow()
        source = read_source(config)
        if not (args.cache_only or args.estimate):
            check_output(config, args.resume)
        preparation = Preparation(config, load_vae, load_text, process.device, report)
        identity = run_identity(config, preparation.contents(), process.world)
        saved = newest_run(config, identity) if args.resume else None
        if saved is not None and saved.step >= config.train.steps and is_finished(config):
            paths = {"lora": _path(result_path(config)), "plot": _path(plot_path(Path(config.output.folder)))}
            report("done", step=saved.step, **paths)
            return 0
        tell_estimate(estimate(source, config, process.device), config, process.device, report)
        if args.estimate:
            return 0
        data = preparation.encode(process)
        if args.cache_only:
            return 0
        if process.rank == 0:
            write_whole(Path(config.output.folder) / "config.toml", _writer(to_toml(config)))
        setup = build_setup(config, source, preparation, data, identity, process, report, switch)
        trainer = Trainer(setup, saved)
        trainer.train()
        switch.defer_for_good()
        report("done", **trainer.finish())
        return 0
    except Stopped:
        end = {"step": 0, "checkpoint": None, "lora": None, "plot": None}
        report("stopped", **(trainer.finish() if trainer is not None and trainer.step else end))
        return STOPPED
    finally:
        report.close()
        process.end()


def check_output(config: Config, resume: bool) -> None:
    """Raise when the run would overwrite something."""
    folder = Path(config.output.folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output.folder is {folder}, which is a file; name a folder")
    has_run = any((folder / name).exists() for name in ("config.toml", "metrics.csv", "checkpoints"))
    if has_run and not resume:
        raise ValueError(f"output.folder {folder} already holds a run; add --resume to go on, or choose another folder")
    if result_path(config).exists() and not has_run:
        raise ValueError(f"{result_path(config)} exists; choose another output.name or output.folder")


def newest_run(config: Config, identity: dict[str, Any]) -> Saved | None:
    """The checkpoint to go on from. Raises ``ValueError`` when it is of another run."""
    saved = newest_checkpoint(Path(config.output.folder))
    if saved is not None:
        check_same(saved.info["identity"], identity, Path(config.output.folder))
    return saved


def is_finished(config: Config) -> bool:
    return result_path(config).is_file() and plot_path(Path(config.output.folder)).is_file()


def tell_estimate(found: Estimate, config: Config, device: torch.device, report: Report) -> None:
    """Report the estimate; warn when the GPU has less memory."""
    values = {
        "parameters": found.trained,
        "memory_gib": round(found.memory / GIB, 3),
        "weights_gib": round(found.weights / GIB, 3),
        "training_gib": round(found.training / GIB, 3),
        "activations_gib": round(found.activations / GIB, 3),
        "seconds_per_step": found.seconds_per_step,
        "hours": found.seconds_per_step * config.train.steps / 3600,
    }
    report("estimate", **values)
    if device.type == "cuda" and found.memory > (room := torch.cuda.get_device_properties(device).total_memory):
        log.warning(
            "about %.1f GiB are needed, the GPU has %.1f; lower data.frames, the size, train.batch or train.rank, or "
            "turn on train.gradient_checkpointing and train.offload_checkpoints",
            found.memory / GIB,
            room / GIB,
        )


def _path(path: Path) -> str:
    return str(path.resolve())


def _writer(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text, encoding="utf-8")
