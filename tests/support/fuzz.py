"""Hostile input that is new in every run.

``PUSA_FUZZ=20`` tries 20 times as many cases. A test that fails prints the seed of its run;
``PUSA_FUZZ_SEED`` repeats it.
"""

import functools
import os
import random
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, seed, settings

TIMES = int(os.environ.get("PUSA_FUZZ", "1"))
SEED = int(os.environ.get("PUSA_FUZZ_SEED", random.SystemRandom().randrange(1 << 32)))


def fuzz(cases: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator of a test that is given data: ``cases`` of them, times ``PUSA_FUZZ``."""
    chosen = settings(
        max_examples=cases * TIMES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        seeded = seed(SEED)(chosen(test))

        @functools.wraps(seeded)
        def run(*args: Any, **kwargs: Any) -> None:
            print(f"PUSA_FUZZ_SEED={SEED}")  # shown where the test fails
            seeded(*args, **kwargs)

        return run

    return decorate
