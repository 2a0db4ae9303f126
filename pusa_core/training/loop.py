"""The training loop."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..storage.atomic import SaveError, write_whole
from .boards import open_boards
from .config import Config
from .data import Batch, generator
from .evaluate import evaluating, validation_loss, validation_sigmas
from .experts import turns_of
from .failure import Diverged
from .files import lora_files
from .history import make_history
from .metrics import Metrics, Row, plot_path
from .objective import fafm_loss
from .resume import Saved, checkpoint_path, shards_path, write_checkpoint
from .schedule import learning_rate
from .setup import Setup
from .stop import Stopped

log = logging.getLogger(__name__)


class Trainer:
    """Trains from checkpoint ``saved``, or from scratch, to the last step."""

    def __init__(self, setup: Setup, saved: Saved | None) -> None:
        self.setup = setup
        self.launch, self.config, self.options = setup.launch, setup.config, setup.config.train
        self.folder = Path(self.config.output.folder)
        self.turns = turns_of(setup.config)
        self.step = 0
        self.updating = False  # the weights are between two steps
        self.row: Row = {}  # metrics of the last completed step
        if saved is not None:
            self.setup.load_state(saved)
            self.launch.load_shards(saved.shards)
            self.step, self.row = saved.step, saved.info["row"]
        self.saved_step = self.step
        sigmas = [name for noise_range in self.turns.ranges for name in validation_sigmas(noise_range)]
        self.metrics: Metrics | None = None
        if self.launch.rank == 0:
            run_id = setup.run.id if setup.run is not None else ""
            self.metrics = Metrics(self.folder, sigmas, self.step, open_boards(self.config, run_id, self.step))

    def train(self) -> None:
        """Raises :class:`Stopped` on request, with the state of the last completed step unless ``updating``."""
        if self.step:
            self.after_step()
        while self.step < self.options.steps:
            self.take_step()
            self.after_step()

    def take_step(self) -> None:
        started = time.monotonic()
        turn = self.turns.of(self.step)
        expert = self.setup.experts[turn]
        own_steps = (self.turns.before(step, turn) for step in (self.step, self.options.steps))
        lr = learning_rate(self.options, *own_steps)
        for group in expert.optimizer.param_groups:
            group["lr"] = lr
        total = torch.zeros((), device=self.launch.device)
        for part in range(self.options.accumulate):
            number = self.step * self.options.accumulate + part
            batch = self.setup.batches[number].to(self.launch.device)
            self._seed_dropout(number)
            with self.launch.accumulate(expert.model):
                given, trained = self._own_history(expert.model, batch)
                loss = fafm_loss(
                    expert.model,
                    batch.latents,
                    batch.context,
                    batch.noise,
                    batch.sigmas,
                    weighting=self.options.weighting,
                    given=given,
                    trained=trained,
                )
                self.launch.backward(loss)
            total += loss.detach() / self.options.accumulate
        norm = self.launch.clip(list(expert.parameters.values()), self.options.clip or math.inf)
        value = self.launch.mean(total).item()
        if not math.isfinite(value) or not math.isfinite(norm):
            raise Diverged(f"the loss of step {self.step + 1} is {value:g}, its gradient's norm {norm:g}")
        with self.setup.stop.deferred():  # a step is atomic
            self.updating = True
            expert.optimizer.step()
            expert.optimizer.zero_grad(set_to_none=True)
            if expert.ema is not None:
                expert.ema.update()
            self.step += 1
            self.updating = False
            self.row = {"step": self.step, "loss": value, "lr": lr, "seconds": time.monotonic() - started}
            self.setup.report("step", steps=self.options.steps, **self.row)

    def _own_history(self, model: nn.Module, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        if batch.history is None:
            return None, None
        with evaluating(model):
            return make_history(model, batch.latents, batch.context, batch.noise, batch.history)

    def _seed_dropout(self, number: int) -> None:
        use = generator(self.options.seed, "dropout", number, self.launch.rank)
        torch.manual_seed(int(torch.randint(2**62, (), generator=use)))

    def after_step(self) -> None:
        """Validation, metrics, samples and checkpoints that are due after the last completed step."""
        output = self.config.output
        if self.launch.any(self.setup.stop.requested):
            raise Stopped  # all processes at the same step
        if _due(self.step, output.validate_every) and "validation" not in self.row:
            self.validate()
        if self.metrics is not None:
            with self.setup.stop.deferred():
                self.metrics.add(self.row)
        if _due(self.step, output.sample_every):
            self.sample()
        if _due(self.step, output.save_every):
            self._written(self.save)

    @contextmanager
    def _best_weights(self) -> Iterator[None]:
        """Context with the averaged weights, if any, in the networks: they are what is saved as the result."""
        averages = [expert.average for expert in self.setup.experts if expert.average is not None]
        try:
            with self.setup.stop.deferred():
                for average in averages:
                    average.exchange()
            yield
        finally:
            with self.setup.stop.deferred():
                for average in averages:
                    if average.exchanged:  # unless stopped before the exchange
                        average.exchange()

    def validate(self) -> None:
        data = self.setup.data
        losses: dict[str, float] = {}
        with self._best_weights():
            for expert in self.setup.experts:
                losses |= validation_loss(
                    expert.model, data.cache, data.held_out, self.options.seed, self.launch, expert.noise_range
                )
        mean = sum(losses.values()) / len(losses)
        self.row |= {"validation": mean} | {f"validation_{sigma}": loss for sigma, loss in losses.items()}
        self.setup.report("validation", step=self.step, loss=mean, by_sigma=losses)

    def sample(self) -> None:
        missing = [each for each in self.setup.samples if not all(path.exists() for path in each.files(self.step))]
        networks = [expert.network for expert in self.setup.experts]
        adapters = [adapter for expert in self.setup.experts for adapter in expert.adapters.values()]
        for sample in missing:
            with self._best_weights():
                latents = sample.latents(networks, adapters, self.launch.device)
            picture, video = sample.files(self.step)
            if self.metrics is not None and self._written(partial(sample.write, latents, picture, video)):
                for board in self.metrics.boards:
                    board.add_sample(self.step, f"sample{sample.name}", picture)
                self.setup.report("sample", step=self.step, picture=str(picture), video=str(video))

    def save(self) -> None:
        """Write a checkpoint of the last completed step, unless there is one, and the loss plot."""
        if self.saved_step == self.step:
            return
        tensors = self.setup.state()
        if not all(value.isfinite().all() for value in tensors.values()):
            raise Diverged(f"the weights after step {self.step} are not finite", weights_lost=True)
        shards = self.launch.save_shards(shards_path(self.folder))
        self.launch.wait()
        try:
            if self.metrics is not None:
                info = {"step": self.step, "row": self.row, "identity": self.setup.identity}
                info["optimizer"] = self.setup.numbers()
                info["trained"] = sorted(self.setup.trained)
                with self.setup.stop.deferred():
                    path = write_checkpoint(self.folder, info, tensors, self.config.output.keep, shards)
                    self.saved_step = self.step
                    self.setup.report("checkpoint", step=self.step, path=str(path.resolve()))
                    self._plot()
            self.saved_step = self.step
        finally:
            self.launch.wait()

    def finish(self) -> dict[str, Any]:
        """Save a checkpoint, the result and the plot; returns the values of the final event.

        Raises :class:`pusa_core.storage.atomic.SaveError` once all of them have been tried.
        """
        failures: list[str] = []

        def attempt(write: Callable[[], object]) -> None:
            try:
                write()
            except SaveError as error:
                failures.append(str(error))

        attempt(self.save)
        with self._best_weights():
            results = [
                {name: self.launch.whole(value).clone() for name, value in expert.parameters.items()}
                for expert in self.setup.experts
            ]
        paths = result_paths(self.config)
        if self.metrics is not None:
            for expert, weights, path in zip(self.setup.experts, results, paths.values(), strict=True):
                write = partial(self.setup.write_result, expert, weights, self.step)
                attempt(partial(write_whole, path, write))
            attempt(self._plot)
            attempt(self.metrics.close)
        if failures:
            raise SaveError("; ".join(failures))
        return {
            "step": self.step,
            "checkpoint": str(checkpoint_path(self.folder, self.step).resolve()),
            **{event: str(path.resolve()) for event, path in paths.items()},
            "plot": str(plot_path(self.folder).resolve()),
        }

    def _plot(self) -> None:
        if self.metrics is not None:
            self.metrics.plot(self.setup.run.mark_png() if self.setup.run is not None else None)

    def _written(self, write: Callable[[], object]) -> bool:
        """Whether the write succeeded; a failure, such as a full disk, is logged and does not end the training."""
        try:
            write()
        except SaveError as error:
            log.error("%s", error)
            return False
        return True


def _due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0


def result_paths(config: Config) -> dict[str, Path]:
    """The files of the result, by what the final event calls them."""
    return lora_files(Path(config.output.folder), config.output.name, bool(config.model.low_noise_checkpoint))
