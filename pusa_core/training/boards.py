"""Where the curves and sample videos of a run go besides its folder: TensorBoard, Weights & Biases."""

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from .config import Config

log = logging.getLogger(__name__)


class Board(Protocol):
    def add(self, step: int, values: Mapping[str, float]) -> None: ...

    def add_sample(self, step: int, name: str, picture: Path) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in ``folder``; what is there of later steps than ``step`` is hidden."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=step)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def add_sample(self, step: int, name: str, picture: Path) -> None:
        self._writer.add_image(name, np.asarray(Image.open(picture).convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of ``project`` with the id of this one, so that a resumed run goes on in it.

    Raises ``ValueError`` where wandb is missing or does not start. Later errors, as of the network, are logged and end
    no training.
    """

    def __init__(self, project: str, run_id: str, name: str, folder: Path, options: Mapping[str, Any]) -> None:
        self._wandb = import_wandb(project)
        try:
            self._run = self._wandb.init(
                project=project, id=run_id, name=name, dir=str(folder), config=dict(options), resume="allow"
            )
        except Exception as error:  # of its own classes, and of those of the libraries that it uses
            raise ValueError(
                f'output.wandb is "{project}", but wandb does not start ({error}); log in with "wandb login", set '
                f"WANDB_MODE=offline, or leave output.wandb empty"
            ) from error

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._log(step, dict(values))

    def add_sample(self, step: int, name: str, picture: Path) -> None:
        self._log(step, {name: self._wandb.Image(str(picture))})

    def _log(self, step: int, values: dict[str, Any]) -> None:
        try:
            self._run.log(values, step=step)
        except Exception as error:
            log.warning("wandb did not take the values of step %d (%s)", step, error)

    def close(self) -> None:
        try:
            self._run.finish()
        except Exception as error:
            log.warning("wandb did not finish (%s)", error)


def import_wandb(project: str) -> Any:
    """Raises ``ValueError`` where it is missing."""
    try:
        import wandb
    except ImportError as error:
        raise ValueError(
            f'output.wandb is "{project}", which needs wandb ({error}); install it, or leave output.wandb empty'
        ) from error
    return wandb


def open_boards(config: "Config", run_id: str, step: int) -> list[Board]:
    """The boards of a run that goes on after ``step``: TensorBoard where it is installed, and wandb if asked for."""
    folder, boards = Path(config.output.folder), list[Board]()
    with contextlib.suppress(ImportError):
        boards.append(TensorBoard(folder / "tensorboard", step))
    if project := config.output.wandb:
        boards.append(WeightsAndBiases(project, run_id, folder.resolve().name, folder, asdict(config)))
    return boards
