"""Checks of node inputs that ComfyUI leaves out: it compares no NaN, and nothing that comes through a link."""

import math


def check_number(value: float, name: str, low: float, high: float) -> None:
    """Raise ``ValueError`` unless the input ``name`` is a finite number in ``low ... high``."""
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} is {value}; it must be a number from {low:g} to {high:g}")
