"""A run's folder: held by one process at a time, and nothing in it replaced or deleted but what the run itself made."""

import contextlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, PngImagePlugin
from safetensors import SafetensorError, safe_open

from ..storage.atomic import write_whole
from ..storage.json_text import parse_json
from ..storage.lock import hold_lock
from .metrics import is_metrics
from .resume import NAME, is_own, owned

RUN_FILE, KEY = "pusa_run.json", "pusa_run"
"""Holds the run's id, which every file that the run makes carries."""


@dataclass(frozen=True)
class Run:
    """``adopted``: an older version, which left no id in its files, began the run."""

    folder: Path
    id: str
    adopted: bool = False

    def save(self) -> None:
        """Keep the id, before anything that carries it is written."""
        text = json.dumps({"id": self.id, "adopted": self.adopted})
        write_whole(self.folder / RUN_FILE, lambda file: file.write_text(text, encoding="utf-8"))

    def mark_png(self) -> PngImagePlugin.PngInfo:
        info = PngImagePlugin.PngInfo()
        info.add_text(KEY, self.id)
        return info

    def mark_toml(self, text: str) -> str:
        return f"{text}\n# {KEY} {self.id}\n"

    def made(self, path: Path) -> bool:
        """Whether the run made this file."""
        if path.suffix == ".csv":
            return is_metrics(path)
        mark = file_mark(path)
        return mark == self.id if mark else self.adopted

    def check(self, paths: list[Path], first_step: int, last_step: int) -> None:
        """Raise ``ValueError`` for a path that the run has to write, where there is something that it did not make."""
        for path in paths:
            if path.exists() and not self.made(path):
                raise _foreign(path)
        for path in (self.folder / "checkpoints").glob("step_*"):
            step = NAME.fullmatch(path.name)
            if step and first_step < int(step[1]) <= last_step and not is_own(path):
                raise _foreign(path)


def _foreign(path: Path) -> ValueError:
    return ValueError(f"{path} was not made by this run; move it away, or choose another output.folder")


def file_mark(path: Path) -> str:
    """The id of the run that made a ``.safetensors``, ``.png`` or ``.toml`` file; empty without one."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return (file.metadata() or {}).get(KEY, "")
        if path.suffix == ".png":
            with Image.open(path, formats=["PNG"]) as picture:
                return str(picture.info.get(KEY, ""))
        last = path.read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
        return last.partition(f"# {KEY} ")[2]
    except (OSError, ValueError, SafetensorError):
        return ""


def open_run(folder: Path) -> Run:
    """The run that a folder holds, or a new one."""
    path = folder / RUN_FILE
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
        return Run(folder, str(values["id"]), bool(values["adopted"]))
    except FileNotFoundError:
        return Run(folder, uuid.uuid4().hex, adopted=bool(owned(folder)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); choose another output.folder") from error


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Hold ``output.folder``, made if need be; what stayed empty is removed again.

    Raises ``ValueError`` where another process holds it, or where nothing can be written.
    """
    with contextlib.ExitStack() as stack:
        if "\0" in str(folder):  # which the file system's own functions report without a name
            raise ValueError(f"output.folder is {str(folder)!r}, which holds a NUL character; leave that out")
        try:
            if folder.exists() and not folder.is_dir():
                raise ValueError(f"output.folder is {folder}, which is a file; name a folder")
            for missing in [path for path in (folder, *folder.parents) if not path.exists()][::-1]:
                missing.mkdir(exist_ok=True)
                stack.callback(_remove_empty, missing)
            held = f"output.folder {folder} is in use by another training; wait for its end, or choose another folder"
            stack.enter_context(hold_lock(folder / RUN_FILE, held))
        except (OSError, UnicodeError) as error:
            raise ValueError(f"output.folder {folder} cannot be written ({error}); choose another folder") from error
        yield


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
