"""What can be known of an output file before the work starts."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .lock import hold_lock

RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE | re.DOTALL)
"""Names that are devices on Windows, whatever their suffix."""


@contextlib.contextmanager
def claim_outputs(
    outputs: Sequence[Path], inputs: Iterable[str | os.PathLike], overwrite: bool = False
) -> Iterator[None]:
    """:func:`check_outputs`, and while the work lasts the lock of the first output, whose folder is made.

    Raises ``ValueError`` also where another process writes there.
    """
    inputs = list(inputs)
    check_outputs(outputs, inputs, overwrite)
    outputs[0].parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(outputs[0]):
        check_outputs(outputs, inputs, overwrite)  # another run may just have ended
        yield


def check_outputs(outputs: Iterable[Path], inputs: Iterable[str | os.PathLike], overwrite: bool) -> None:
    """Raise unless every one of ``outputs`` can be written and is not one of ``inputs``, by whatever link.

    Raises:
        ValueError: a name that no file can have, a folder or device of that name, a folder that cannot be written to,
            or an input.
        FileExistsError: a file of that name, without ``overwrite``.
    """
    others = [Path(each) for each in inputs]
    for path in outputs:
        check_name(path.name)
        _check_place(path)
        for other in others:
            if _same(path, other):
                raise ValueError(f"{path} is an input of this command ({other}); give another name")
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is a folder or a device; give the name of a file")
        if (path.exists() or path.is_symlink()) and not overwrite:
            raise FileExistsError(f"{path} exists; give another name, or --overwrite")


def check_name(name: str) -> None:
    """Raise ``ValueError`` for a name that no file can have on some system."""
    if not name or "\0" in name:
        raise ValueError(f"{name!r} cannot be the name of a file; choose another")
    if RESERVED.fullmatch(name):
        raise ValueError(f'"{name}" is the name of a device on Windows; choose another')


def _same(path: Path, other: Path) -> bool:
    if path.resolve() == other.resolve():
        return True
    return path.exists() and other.exists() and os.path.samefile(path, other)


def _check_place(path: Path) -> None:
    """Raise where the folder of ``path`` cannot be written to, or not be made."""
    folder = path.parent
    while not folder.exists():
        if folder.is_symlink():
            raise ValueError(f"{folder} is a link to nothing; give another place")
        check_name(folder.name)
        folder = folder.parent
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder; {path.name} cannot be written there")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{folder} cannot be written to ({error.strerror}); give another place") from error
