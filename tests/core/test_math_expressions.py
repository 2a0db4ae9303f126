"""The page reads the expressions of ComfyUI's Math Expression node as Python does."""

import json
import math
import random
import subprocess
from pathlib import Path

import pytest

from tests.support.fuzz import SEED, TIMES

READER = Path(__file__).resolve().parents[1] / "web" / "expressions.mjs"
NAMES = {"a": 5.0, "b": 2, "seconds": 0.37}
FUNCTIONS = {
    **{function.__name__: function for function in (abs, min, max, round, pow, int, float, math.sqrt)},
    "ceil": math.ceil,
    "floor": math.floor,
    "sum": lambda *values: sum(values),
}
WRITTEN = [
    *("4 * round(4 * a) + 1", "-2 ** 2", "2 ** -1", "2 ** 3 ** 2", "-7 // 2", "7 % -3", "1 % 0.1", "-a % 3"),
    *("round(0.5)", "round(1.5)", "round(-2.5)", "int(-2.7)", "floor(-2.5)", "1e3 + .5", "--a", "+(a)", "max(a, b, 3)"),
    *("a / 0", "a // 0", "a % 0", "sqrt(-1)", "", "a +", "c", "f(a)", "a b", "1_0", "max(a)", "(a", "a)", "a ** 99999"),
    *("'a'", "a.real", "[a]", "a if a else b", "a < b", "__import__('os')", "pow(a)", "(-a) ** 0.5"),
]


def value_in_python(text: str) -> float | None:
    """The value, or None for what fails, or is not made of the signs and functions above."""
    if any(sign in text for sign in "'[]_<") or " if " in text or ".real" in text:
        return None
    try:
        value = eval(text, {"__builtins__": {}}, {**NAMES, **FUNCTIONS})
        return float(value) if math.isfinite(value) else None
    except (ArithmeticError, NameError, SyntaxError, TypeError, ValueError):
        return None


def draw(dice: random.Random, depth: int = 0) -> str:
    """An expression of numbers, names, signs and functions."""
    if depth > 4 or dice.random() < 0.25:
        return dice.choice([*NAMES, "0", "3", "0.5", "2.5", "17", f"{dice.uniform(0, 9):.2f}"])
    one, other = draw(dice, depth + 1), draw(dice, depth + 1)
    sign = dice.choice(["+", "-", "*", "/", "//", "%", " - "])
    call = dice.choice(["round", "int", "ceil", "floor", "abs", "float", "sum"])
    return dice.choice(
        [f"{one} {sign} {other}", f"({one}){sign}{other}", f"-{one}", f"{call}({one})", f"max({one}, {other})"]
    )


def test_an_expression_has_the_value_that_it_has_in_python(node: str) -> None:
    print(f"PUSA_FUZZ_SEED={SEED}")
    dice = random.Random(SEED)
    texts = [*WRITTEN, *(text for text in (draw(dice) for _ in range(1000 * TIMES)) if len(text) <= 300)]
    wanted = json.dumps([{"text": text, "names": NAMES} for text in texts])
    done = subprocess.run([node, str(READER)], input=wanted, capture_output=True, text=True, check=True)
    for text, seen in zip(texts, json.loads(done.stdout), strict=True):
        expected = value_in_python(text)
        assert (seen is None) == (expected is None), text
        assert expected is None or seen == pytest.approx(expected, rel=1e-9, abs=1e-9), text
