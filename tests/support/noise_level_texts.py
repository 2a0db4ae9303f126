"""Texts of noise levels, with what comes of each: ``python -m tests.support.noise_level_texts`` writes the stored ones.

The stored file holds Python and JavaScript to the same results and messages; the texts that a test draws anew compare
the two with each other.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pusa_core.sampling.schedule import check_entries, named_noise_levels, parse_entries

STORED = Path(__file__).resolve().parents[1] / "data" / "noise_levels.json"
LONGEST = 1000  # latent frames, as Frame Conditioning Mask takes them before the length is known

CHOSEN = (
    *("", " ", ",", ";;\n", "0:0", "0:0.3, -1:0.7", "1-3:.2", "-2--1 : 0.5", "0-4:0..1", "0:0.3\n0:0.3; 2:1e-1"),
    *("p0:0, p13:0.3", "p4-5:0.2, P-1:0", "p0-8: 0..0.5, 3:0.7", "p-4--1:0.5", "0:0.3, 1-19:1, -1:0.3"),
    *(
        "0",
        "zero:0.3",
        "0:abc",
        "0:",
        ":0",
        "0:nan",
        "0:inf",
        "0:1_0",
        "0:0x1",
        "0:+.5",
        "0:5.",
        "0:.",
        "0:1e",
        "0:1e-400",
    ),
    *("5:0.3", "-6:0.3", "0:1.5", "0:-0.1", "0:-0", "-0:0.5", "0:1e400", "3-1:0.2", "2:0..1", "p5-8:0..1", "p8-1:0.3"),
    *("0:0.3, 0:0.4", "0-2:0, -5:0.5", "0-4:0..1, 1-3:0.25..0.75, 2:0.5", "0-4:0..1, 1-3:0.75..0.25", "1:-0.0, 1:0.5"),
    *(
        "\u06630:0",
        "\uff10:0.3",
        "0:\uff10",
        "0\u00a0:\u00a00.3",
        "\ufeff0:0",
        "\x1c0:0\x85",
        "0:0\r\n1:0",
        "0:0\u20281:0",
    ),
    *(
        "0:1.0009765625",
        "0:3.001953125",
        "0:1.001953125",
        "0:1234567",
        "0:123456.5",
        "0:100000",
        "0:1e15",
        "0:-0.00001",
    ),
    *(
        "0:-1e-7",
        "0:-0.000123456789",
        "0-0:0.5",
        "0-0:0..1",
        "0-1:0...5",
        "0-1:0..1..2",
        "0-1:..1",
        "0-1:0..",
        "0--1:0.5",
    ),
    *("1234567890:0", "123456789:0", "-12345678:0", "-123456789:0", "p999999999:0", "0:\U0001f3ac", "\U0001f3ac" * 61),
    *(
        "0:" + "9" * 300,
        "1" * 70 + ":0",
        "0:" + "x" * 21,
        "0:0 0",
        "0 1:0",
        "0-1-2:0",
        "pp0:0",
        "p 0:0",
        "q0:0",
        "--1:0",
    ),
)


def random_text(random: random.Random, frames: int) -> str:
    """A text of a few entries: most of them right, some with a number beyond the video, some with a slip of the pen."""
    entries = [random_entry(random, frames) for _ in range(random.choice((1, 1, 1, 2, 2, 4)))]
    text = random.choice((", ", ",", "; ", "\n", ",\n ")).join(entries)
    if random.random() < 0.2:
        at = random.randrange(len(text) + 1)
        text = text[:at] + random.choice(("", *"-:.,p;e 01x\n\u00a0\u3000")) + text[at + random.randrange(2) :]
    return text


def random_entry(random: random.Random, frames: int) -> str:
    pixels = random.random() < 0.2
    total = (frames - 1) * 4 + 1 if pixels else frames
    first = random.randrange(total + (random.random() < 0.1))
    last = random.randrange(first, total) if first < total else first
    if random.random() < 0.05:
        first, last = last, first
    ends = [frame - total if random.random() < 0.3 else frame for frame in (first, last)]
    span = str(ends[0]) if random.random() < 0.4 else f"{ends[0]}-{ends[1]}"
    level = random_level(random) + (f"..{random_level(random)}" if random.random() < 0.3 else "")
    return (
        f"{random.choice('pP') if pixels else ''}{span}{random.choice(('', '', ' '))}:{random.choice(('', ' '))}{level}"
    )


def random_level(random: random.Random) -> str:
    kind = random.random()
    if kind < 0.7:
        return random.choice(("0", "1", "0.3", ".5", "0.25", "1.", "0.7"))
    if kind < 0.95:
        return repr(random.random() * random.choice((1, 1, 1e-3, 1e-6)))
    return random.choice(("1.5", "-0.2", repr(random.uniform(1, 3) * 10 ** random.randint(-3, 12)), "two", ""))


def draw(seed: int, count: int) -> Iterator[tuple[str, int]]:
    """``count`` texts, each with the latent frames of a video."""
    generator = random.Random(seed)
    for _ in range(count):
        frames = generator.choice((1, 2, 5, 9, 21, 41, 101))
        yield random_text(generator, frames), frames


def outcome(text: str, frames: int) -> dict[str, Any]:
    """What Python makes of a text: the levels of the frames it names, or the messages with and without the length."""
    case: dict[str, Any] = {"text": text, "frames": frames}
    try:
        check_entries(parse_entries(text), LONGEST)
    except ValueError as error:
        case["refused"] = str(error)
    try:
        case["levels"] = sorted(named_noise_levels(text, frames).items())
    except ValueError as error:
        case["error"] = str(error)
    return case


def main() -> None:
    cases = [outcome(text, frames) for text, frames in [*((text, 5) for text in CHOSEN), *draw(22, 320)]]
    lines = ",\n".join(json.dumps(case) for case in cases)
    STORED.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
