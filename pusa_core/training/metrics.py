"""Training metrics: CSV, boards, and a plot of the loss."""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.PngImagePlugin import PngInfo

from ..storage.atomic import SaveError, write_whole
from .boards import Board
from .plot import draw_losses

log = logging.getLogger(__name__)

COLUMNS = ("step", "loss", "lr", "seconds", "validation")

Row = dict[str, Any]


class Metrics:
    """One row per step in ``metrics.csv``.

    Args:
        folder: of the run.
        sigmas: names of the validation noise levels.
        step: rows from this step on are dropped; they will be written again.
        boards: that get every row as well.
    """

    def __init__(self, folder: Path, sigmas: Sequence[str], step: int, boards: Sequence[Board] = ()) -> None:
        self.folder = folder
        self.path = folder / "metrics.csv"
        self.columns = [*COLUMNS, *(f"validation_{sigma}" for sigma in sigmas)]
        self.rows = [row for row in read_rows(self.path, self.columns) if row["step"] < step]
        self._rewrite()
        self.boards = boards

    def _rewrite(self) -> None:
        write_whole(self.path, lambda path: path.write_text(self._text(self.rows, header=True), encoding="utf-8"))
        self._whole = True

    def _text(self, rows: Sequence[Row], header: bool = False) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def add(self, row: Row) -> None:
        """Append a row; after a failed write, such as a full disk, the next call rewrites the file."""
        self.rows.append(dict(row))
        try:
            if self._whole:
                self._whole = False
                with self.path.open("a", encoding="utf-8", newline="") as file:
                    file.write(self._text([row]))
                self._whole = True
            else:
                self._rewrite()
            for board in self.boards:
                board.add(row["step"], {name: value for name, value in row.items() if name != "step"})
        except (OSError, SaveError) as error:
            log.error("cannot write the metrics of step %d (%s); tried again at the next step", row["step"], error)

    def plot(self, mark: PngInfo | None = None) -> None:
        """Plot the losses so far; ``mark`` goes into the picture's metadata.

        Raises :class:`pusa_core.storage.atomic.SaveError`.
        """
        losses = [(row["step"], row["loss"]) for row in self.rows]
        held_out = [(row["step"], row["validation"]) for row in self.rows if row.get("validation") is not None]
        picture = draw_losses(losses, held_out)
        write_whole(plot_path(self.folder), lambda path: picture.save(path, format="PNG", pnginfo=mark))

    def close(self) -> None:
        """Flush pending rows. Raises :class:`pusa_core.storage.atomic.SaveError`."""
        if not self._whole:
            self._rewrite()
        for board in self.boards:
            board.close()


def is_metrics(path: Path) -> bool:
    """Whether a CSV has the columns of a run's metrics."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline().rstrip("\n").split(",")[: len(COLUMNS)] == list(COLUMNS)
    except (OSError, ValueError):
        return False


def plot_path(folder: Path) -> Path:
    return folder / "loss.png"


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The complete rows of a CSV; a truncated last row is ignored."""
    rows: list[Row] = []
    if not path.is_file():
        return rows
    with path.open(encoding="utf-8", newline="") as file:
        lines = file.readlines()
    for record in csv.DictReader(line for line in lines if line.endswith("\n")):
        values = {name: record[name] for name in columns if record.get(name)}
        try:
            rows.append({name: int(text) if name == "step" else float(text) for name, text in values.items()})
        except ValueError:
            break
    return [row for row in rows if {"step", "loss"} <= row.keys()]
