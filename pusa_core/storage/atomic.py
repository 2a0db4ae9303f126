"""Atomic writes of files and folders: whole or not at all, whatever ends the process."""

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError

SUFFIX = ".pusa.partial"  # no other program leaves files of that name
_SHOWN = 40  # characters of a name that its temporary folder repeats


class SaveError(Exception):
    """A write failed; the message names the file. What was there before is intact."""


def write_whole(
    path: str | os.PathLike,
    write: Callable[[Path], object],
    *,
    replace: bool = True,
    temporary_in: Path | None = None,
) -> None:
    """Atomic write: ``write`` makes a temporary file or folder, which is synced to disk and renamed to ``path``.

    Args:
        path: its parent folder is created where it is missing.
        write: called with the path of the temporary: the same name, in a new folder that ends in :data:`SUFFIX`.
        replace: whether a file or folder ``path`` may be replaced.
        temporary_in: the folder for the temporary, on the same file system; by default the parent of ``path``.

    Raises :class:`SaveError`: ``write`` or the file system failed, or ``path`` exists and must not be replaced.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path, temporary_in or path.parent) as temporary:
            write(temporary)
            for file in sorted(temporary.rglob("*")) if temporary.is_dir() else [temporary]:
                _to_disk(file)
            if replace:
                _replace(temporary, path)
            else:
                _place(temporary, path)
            _to_disk(path.parent)
    except (OSError, SafetensorError) as error:
        raise SaveError(f"cannot write {path} ({error}); what was saved before is kept") from error


def remove(path: Path) -> None:
    """Delete a file or folder if it exists. A folder is renamed first: its name never stands for a partial one."""
    if path.is_dir():
        if not path.name.endswith(SUFFIX):
            path = path.rename(path.with_name(f"{path.name}.old{SUFFIX}"))
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def clear_partial(path: Path) -> None:
    """Delete what killed writes of ``path`` have left beside it. The caller holds its lock."""
    for folder in path.parent.glob(f".{glob.escape(path.name[:_SHOWN])}.*{SUFFIX}"):
        remove(folder)


@contextlib.contextmanager
def _temporary(path: Path, place: Path) -> Iterator[Path]:
    """A path of the same name in a new folder in ``place``, which is removed at the end."""
    folder = tempfile.mkdtemp(prefix=f".{path.name[:_SHOWN]}.", suffix=SUFFIX, dir=place)
    try:
        yield Path(folder, path.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace(temporary: Path, path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove(path)
    os.replace(temporary, path)


def _place(temporary: Path, path: Path) -> None:
    """Rename without replacing what has appeared under that name meanwhile."""
    if path.exists() or path.is_symlink():
        raise FileExistsError("it is there already")
    if os.name == "nt" or temporary.is_dir():
        temporary.rename(path)  # which replaces no file on Windows, and no folder with files anywhere
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.replace(temporary, path)


def _to_disk(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
