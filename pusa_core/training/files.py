"""Atomic writes of files and folders."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

SUFFIX = ".pusa.partial"  # no other program leaves files of that name


RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # devices on Windows, with any ending
LONGEST = 200  # bytes of a file name; most systems take 255, and endings are added


class SaveError(Exception):
    """A write failed; the message names the file. Earlier saves are intact."""


def check_file_name(name: str) -> None:
    """Raise ``ValueError``, without the option's name, for a name that is no file name on every system."""
    quoted = f'is "{name[:80]}"'
    if name in ("", ".", "..") or any(letter in '/\\:*?"<>|' or letter < " " for letter in name):
        raise ValueError(f'{quoted}; use a file name without folders and without : * ? " < > |')
    if RESERVED.fullmatch(name) or name[-1] in " .":
        raise ValueError(f"{quoted}, which is no file name on Windows; use another, such as pusa_lora")
    if len(name.encode(errors="surrogatepass")) > LONGEST:
        raise ValueError(f"{quoted}..., which is too long; use at most {LONGEST} bytes")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Atomic write: ``write`` fills a temporary file or folder, which is synced to disk and renamed to ``path``.

    Replaces what is there. Raises :class:`SaveError` on failure.
    """
    temporary = path.with_name(path.name + SUFFIX)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(temporary)
        write(temporary)
        for file in sorted(temporary.rglob("*")) if temporary.is_dir() else [temporary]:
            _to_disk(file)
        if path.is_dir():
            remove(path)
        os.replace(temporary, path)
        _to_disk(path.parent)
    except (OSError, SafetensorError) as error:
        raise SaveError(
            f"cannot write {path} ({error}); what was saved before is kept. Make room and resume"
        ) from error
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Delete a file or folder if it exists. A folder is renamed first: its name never stands for a partial one."""
    if path.is_dir():
        if not path.name.endswith(SUFFIX):
            path = path.rename(path.with_name(f"{path.name}.old{SUFFIX}"))
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _to_disk(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
