"""Resident memory of this process and of its children. Linux only."""

import os
from pathlib import Path

MB = 1 << 20


def resident(field: str) -> int:
    """A field of ``/proc/self/status`` in bytes: ``VmRSS``, or ``VmHWM`` for the peak, memory-mapped files included.

    Unlike the peak of getrusage, ``VmHWM`` does not start at that of the parent process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) << 10


def reset_peak() -> None:
    """Reset ``VmHWM`` to the current resident memory."""
    Path("/proc/self/clear_refs").write_text("5")


def children_resident() -> int:
    """Resident memory of the direct children, in bytes."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    pages = sum(int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in children)
    return pages * os.sysconf("SC_PAGE_SIZE")
