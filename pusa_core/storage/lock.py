"""A lock between processes. The operating system releases it when its process ends, however that ends."""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

_HELD = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK}  # Windows says EACCES or EDEADLK


@contextlib.contextmanager
def hold_lock(target: str | os.PathLike, held: str = "") -> Iterator[None]:
    """Hold the lock of a file or folder that is to be written, without waiting.

    The lock file is ``.NAME.lock`` beside a file, ``.lock`` in a folder that exists; it is removed at the end. Paths
    that lead to one place by links share a lock. On a file system without locks, a warning is logged and nothing is
    held.

    Args:
        target: what is to be written; its parent folder must exist.
        held: the message where another process, or another caller in this one, has the lock.

    Raises:
        ValueError: the lock is held.
        OSError: the lock file cannot be created.
    """
    target = Path(target).resolve()
    path = target / ".lock" if target.is_dir() else target.with_name(f".{target.name}.lock")
    handle = _acquire(path)
    if handle is None:
        raise ValueError(held or f"{target} is being written by another process; wait for it, or choose another name")
    try:
        yield
    finally:
        _release(path, handle)


def _acquire(path: Path) -> int | None:
    """An open handle that holds the lock, or None where another one does."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in _HELD:
                os.close(handle)
                return None
            log.warning("%s cannot be locked (%s); start no second run that writes there", path, error)
            return handle
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        os.close(handle)  # removed by the holder before us: the name stands for another file now


def _release(path: Path, handle: int) -> None:
    """Remove the file while it is locked, so that nobody can lock one that is about to go."""
    if os.name != "nt":
        path.unlink(missing_ok=True)
    os.close(handle)
    if os.name == "nt":  # which removes no open file, and refuses where the next holder has it open
        with contextlib.suppress(OSError):
            path.unlink()


if os.name == "nt":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
