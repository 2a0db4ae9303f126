"""Computes the results of a study in parallel processes, before the report needs them."""

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.study.cells import Bench
from benchmarks.study.experiments import experiments
from benchmarks.study.looks import MEASURES, MODELS, attention
from benchmarks.study.plan import Cell, Plan, Training
from benchmarks.study.store import Store
from benchmarks.study.training import clips

Task = tuple[Callable[..., Any], tuple[Any, ...]]


def compute_ahead(bench: Bench, jobs: int) -> None:
    """Compute all expensive results into the store: dependencies first, then the rest in parallel."""
    plan = bench.plan
    cells = list(dict.fromkeys(cell for each in experiments(plan) for cell in each.cells.values()))
    loras = (cell.lora for cell in cells if isinstance(cell.lora, Training))
    # a single run provides all step counts of the common options
    common = Training(plan.usual_training)
    trainings = dict.fromkeys(common if lora == Training(lora.steps) else lora for lora in loras)
    clips(bench.store, plan.training_clips)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start, (jobs,)) as pool:
        _run(pool, bench, ((_train, (training,)) for training in trainings))
        maps = [(label, measure) for label in MODELS for measure in MEASURES if MODELS[label] or measure == "exact"]
        parts: list[Task] = [(_cell, (cell, number)) for cell in cells for number in range(plan.seeds)]
        _run(pool, bench, [*parts, (_truth, ()), *((_attend, each) for each in maps)])


def _run(pool: Executor, bench: Bench, tasks: Iterable[Task]) -> None:
    futures = [pool.submit(_call, bench.store.folder, bench.plan, *task) for task in tasks]
    for future in futures:
        future.result()


def _start(jobs: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))


@lru_cache(maxsize=1)
def _bench(folder: Path, plan: Plan) -> Bench:
    return Bench(Store(folder), plan)


def _call(folder: Path, plan: Plan, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    work(_bench(folder, plan), *arguments)


def _train(bench: Bench, training: Training) -> None:
    bench.model(training, 1.0)


def _cell(bench: Bench, cell: Cell, number: int) -> None:
    bench.arrays(cell, number)


def _truth(bench: Bench) -> None:
    _ = bench.truth


def _attend(bench: Bench, label: str, measure: str) -> None:
    attention(bench, label, measure)
