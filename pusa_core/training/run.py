"""A training run from its options to its LoRA."""

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open

from ..storage.atomic import write_whole
from .boards import import_wandb
from .config import Config
from .config_file import to_toml
from .estimate import Estimate, estimate
from .failure import rescue
from .files import check_file_name
from .identity import Identity, check_options, check_same, run_identity
from .launch import AcceleratedLaunch, Launch, launch
from .loop import Trainer, result_paths
from .metrics import plot_path
from .network import read_sources
from .optimizer import check_optimizer
from .ownership import RUN_FILE, Run, hold_folder, open_run
from .prepare import LoadText, LoadVae, Preparation
from .report import BarReport, JsonReport, Report, Silent
from .resume import Saved, newest_checkpoint, next_start, owned
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
    look: Path | None = None
    progress: Literal["bar", "json"] = "bar"
    stop_on_stdin_close: bool = False

    @property
    def writes(self) -> bool:
        """Whether anything is written to ``output.folder``."""
        return not (self.estimate or self.cache_only or self.look)


def train(options: RunOptions, config: Config, load_vae: LoadVae, load_text: LoadText, stop: StopRequest) -> int:
    """Carry out the run; its exit code.

    Raises:
        ValueError: options that do not fit the files, or the folder, which another run may hold.
        TrainingFailed: an error in the loop; what could be saved is saved.
    """
    try:
        check_file_name(config.output.name)
    except ValueError as error:
        raise ValueError(f"output.name {error}") from error
    first = int(os.environ.get("RANK", "0")) == 0
    held = hold_folder(Path(config.output.folder)) if first and options.writes else contextlib.nullcontext()
    with held:
        process = launch(config.train)
        report: Report = Silent() if process.rank else JsonReport() if options.progress == "json" else BarReport()
        try:
            return _train(options, config, load_vae, load_text, stop, process, report)
        finally:
            report.close()
            process.end()


def _train(
    options: RunOptions,
    config: Config,
    load_vae: LoadVae,
    load_text: LoadText,
    stop: StopRequest,
    process: Launch,
    report: Report,
) -> int:
    trainer = None
    try:
        if process.world == 1:
            stop.allow()
        if options.resume:
            check_options(config, process.world)
        check_optimizer(config.train)
        if config.output.wandb:
            import_wandb(config.output.wandb)
        if options.look is not None:
            picture = Preparation(config, load_vae, load_text, process, report).look()
            write_whole(options.look, partial(picture.save, format="PNG"))
            report("look", picture=_path(options.look))
            return 0
        if config.model.low_noise_checkpoint and isinstance(process, AcceleratedLaunch):
            raise ValueError(
                "model.low_noise_checkpoint works in one process; train the experts one by one, with train.noise_range"
            )
        if process.sharded and config.model.base_dtype in ("fp8", "int8"):
            raise ValueError(
                f"model.base_dtype {config.model.base_dtype} does not work with FSDP2 and DeepSpeed; use full, or DDP"
            )
        sources = read_sources(config)
        run = check_output(config, options.resume) if options.writes and process.rank == 0 else None
        preparation = Preparation(config, load_vae, load_text, process, report, remember=not options.estimate)
        identity = run_identity(config, preparation.contents(), process.world, preparation.clips())
        saved, changes = newest_run(config, identity) if options.resume else (None, [])
        if saved is not None and saved.step >= config.train.steps and is_finished(config, saved.step):
            paths = result_paths(config) | {"plot": plot_path(Path(config.output.folder))}
            report("done", step=saved.step, **{event: _path(path) for event, path in paths.items()})
            return 0
        tell_estimate(estimate(sources[0], config, process.device), config, process.device, report)
        if options.estimate:
            return 0
        trained = saved.info.get("trained", ()) if saved is not None else ()
        data = preparation.encode(trained)
        if options.cache_only:
            return 0
        if run is not None:
            run.save()
            write_whole(Path(config.output.folder) / "config.toml", _writer(run.mark_toml(to_toml(config))))
        setup = build_setup(config, sources, preparation, data, identity, run, trained, process, report, stop)
        if saved is not None:
            report("resumed", step=saved.step, changes=changes)
        trainer = Trainer(setup, saved)
        try:
            trainer.train()
        except Exception as error:
            stop.defer_for_good()
            raise rescue(error, trainer) from error
        stop.defer_for_good()
        report("done", **trainer.finish())
        return 0
    except Stopped:
        end = {"step": 0, "checkpoint": None, "lora": None, "plot": None}
        report("stopped", **(trainer.finish() if trainer is not None and trainer.step else end))
        return STOPPED


def check_output(config: Config, resume: bool) -> Run:
    """The run in ``output.folder``. Raises ``ValueError`` when it would overwrite something that it did not make."""
    folder = Path(config.output.folder)
    has_run = (folder / RUN_FILE).exists() or bool(owned(folder))
    if has_run and not resume:
        raise ValueError(f"output.folder {folder} already holds a run; add --resume to go on, or choose another folder")
    for path in result_paths(config).values():
        if path.exists() and not has_run:
            raise ValueError(f"{path} exists; choose another output.name or output.folder")
    run = open_run(folder)
    paths = [folder / "config.toml", folder / "metrics.csv", plot_path(folder), *result_paths(config).values()]
    run.check(paths, next_start(folder), config.train.steps)
    return run


def newest_run(config: Config, identity: Identity) -> tuple[Saved | None, list[str]]:
    """The checkpoint to go on from, and what has changed since. Raises ``ValueError`` when it is of another run."""
    folder = Path(config.output.folder)
    saved = newest_checkpoint(folder)
    changes = check_same(saved.info["identity"], identity, folder) if saved is not None else []
    if saved is not None and saved.shards.exists():
        before, now = (entry["processes"]["value"] for entry in (saved.info["identity"], identity))
        if before != now:
            raise ValueError(
                f"cannot resume the run in {folder}: processes was {before}, now it is {now}, but DeepSpeed has "
                f"divided the optimiser's state among them; start {before}, or choose another output.folder"
            )
    if changes:
        log.info("the run is resumed with changes: %s", "; ".join(changes))
    return saved, changes


def is_finished(config: Config, step: int) -> bool:
    """Whether the result is that of the last checkpoint, and plotted."""
    paths = list(result_paths(config).values())
    if not all(path.is_file() for path in (*paths, plot_path(Path(config.output.folder)))):
        return False
    try:
        for path in paths:
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("steps") != str(step):
                    return False
        return True
    except (OSError, SafetensorError):
        return False


def tell_estimate(found: Estimate, config: Config, device: torch.device, report: Report) -> None:
    """Report the estimate; warn when the GPU has less memory."""
    values = {
        "parameters": found.trained,
        "memory_gib": round(found.memory / GIB, 3),
        "weights_gib": round(found.weights / GIB, 3),
        "training_gib": round(found.training / GIB, 3),
        "activations_gib": round(found.activations / GIB, 3),
        "main_memory_gib": round(found.main_memory / GIB, 3),
        "seconds_per_step": found.seconds_per_step,
        "hours": found.seconds_per_step * config.train.steps / 3600,
    }
    report("estimate", **values)
    if device.type == "cuda" and found.memory > (room := torch.cuda.get_device_properties(device).total_memory):
        log.warning(
            "about %.1f GiB are needed, the GPU has %.1f; turn on train.gradient_checkpointing and "
            "train.offload_checkpoints, raise train.swap_blocks, set model.base_dtype to fp8, or lower data.frames, "
            "the size, train.batch or train.rank",
            found.memory / GIB,
            room / GIB,
        )


def _path(path: Path) -> str:
    return str(path.resolve())


def _writer(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text, encoding="utf-8")
