"""Waiting for what other processes do, however slow the machine."""

import time
from collections.abc import Callable

HANGS = 1200
"""Seconds after which something is taken to hang; never a bound on how long it may take."""


def wait_for(condition: Callable[[], object]) -> None:
    """Return once ``condition()`` is true."""
    deadline = time.monotonic() + HANGS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} was not true within {HANGS} s")
        time.sleep(0.05)
