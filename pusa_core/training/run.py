"""A training run from its options to its LoRA."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from .config import Config
from .config_file import to_toml
from .estimate import Estimate, estimate
from .files import write_whole
from .launch import launch
from .loop import Trainer, result_path
from .metrics import plot_path
from .network import read_source
from .prepare import LoadText, LoadVae, Preparation
from .report import BarReport, JsonReport, Report, Silent
from .resume import Saved, check_same, newest_checkpoint, run_identity
from .setup import build_setup
from .stop import Stopped, StopRequest

log = logging.getLogger(__name__)

STOPPED = 130  # exit code, as of a process that SIGINT ended
GIB = 2**30


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; what it trains is in :class:`~pusa_core.training.config.Config`."""

    resume: bool = False
    cache_only: bool = False
    estimate: bool = False
    progress: Literal["bar", "json"] = "bar"
    stop_on_stdin_close: bool = False


def train(options: RunOptions, config: Config, load_vae: LoadVae, load_text: LoadText, stop: StopRequest) -> int:
    """Carry out the run; its exit code. Raises ``ValueError`` for options that do not fit the files, or the folder."""
    process = launch(config.train)
    report: Report = Silent() if process.rank else JsonReport() if options.progress == "json" else BarReport()
    trainer = None
    try:
        if process.world == 1:
            stop.allow()
        source = read_source(config)
        if not (options.cache_only or options.estimate):
            check_output(config, options.resume)
        preparation = Preparation(config, load_vae, load_text, process.device, report)
        identity = run_identity(config, preparation.contents(), process.world)
        saved = newest_run(config, identity) if options.resume else None
        if saved is not None and saved.step >= config.train.steps and is_finished(config):
            paths = {"lora": _path(result_path(config)), "plot": _path(plot_path(Path(config.output.folder)))}
            report("done", step=saved.step, **paths)
            return 0
        tell_estimate(estimate(source, config, process.device), config, process.device, report)
        if options.estimate:
            return 0
        data = preparation.encode(process)
        if options.cache_only:
            return 0
        if process.rank == 0:
            write_whole(Path(config.output.folder) / "config.toml", _writer(to_toml(config)))
        setup = build_setup(config, source, preparation, data, identity, process, report, stop)
        trainer = Trainer(setup, saved)
        trainer.train()
        stop.defer_for_good()
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
