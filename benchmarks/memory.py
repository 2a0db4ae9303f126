"""Resident memory of this process. Linux only."""

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
