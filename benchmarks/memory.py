"""What this process uses of the machine's memory. Linux only."""

from pathlib import Path

MB = 1 << 20


def resident(field: str) -> int:
    """A line of this process's status, in bytes: ``VmRSS``, or ``VmHWM`` for the peak, mapped files included.

    Not getrusage, whose peak starts with that of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) << 10


def start_peak_anew() -> None:
    """Let ``VmHWM`` count from now on."""
    Path("/proc/self/clear_refs").write_text("5")
