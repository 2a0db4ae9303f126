"""The language of noise levels has one meaning in Python, which runs it, and in JavaScript, which draws it."""

import json
import subprocess
from pathlib import Path

from tests.support.fuzz import SEED, TIMES
from tests.support.noise_level_texts import STORED, draw, outcome

WEB = Path(__file__).resolve().parents[1] / "web"
CASES = json.loads(STORED.read_text(encoding="utf-8"))


def plain(case: dict) -> dict:
    return json.loads(json.dumps(case))


def test_python_has_the_stored_results_and_messages() -> None:
    assert len(CASES) >= 300
    assert [plain(outcome(case["text"], case["frames"])) for case in CASES] == CASES


def test_the_stored_texts_meet_every_message_and_many_results() -> None:
    messages = " ".join(case.get("error", "") for case in CASES)
    parts = (
        "FRAME:LEVEL",
        "not a number",
        "no video",
        "does not exist",
        "outside 0",
        "backwards",
        "ramp",
        "contradict",
    )
    assert [part for part in parts if part not in messages] == []
    assert min(sum(kind in case for case in CASES) for kind in ("levels", "error", "refused")) > 100


def test_newly_drawn_texts_mean_the_same_in_javascript(node: str) -> None:
    print(f"PUSA_FUZZ_SEED={SEED}")
    cases = [plain(outcome(text, frames)) for text, frames in draw(SEED, 2000 * TIMES)]
    wanted = json.dumps([{"text": case["text"], "frames": case["frames"]} for case in cases])
    done = subprocess.run([node, str(WEB / "outcomes.mjs")], input=wanted, capture_output=True, text=True, check=True)
    for expected, seen in zip(cases, json.loads(done.stdout), strict=True):
        assert seen == expected


def test_the_modules_of_the_page_pass_their_own_tests(node: str) -> None:
    files = sorted(map(str, WEB.glob("*.test.mjs")))
    done = subprocess.run([node, "--test", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
