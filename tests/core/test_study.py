"""The study's judgement, its store and its plan; ``python -m benchmarks.study --smoke`` runs the whole."""

from concurrent.futures import Future

import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("matplotlib")

from benchmarks.study import ahead
from benchmarks.study import store as store_module
from benchmarks.study.cells import FIRST_SCENE, Bench, Difference, Spread
from benchmarks.study.experiments import experiments
from benchmarks.study.measures import MEASURES, measure
from benchmarks.study.plan import FULL, SMOKE, Cell, Training
from benchmarks.study.report import HOLDS, KEPT, OPEN, OPPOSITE, notes, sentence, verdict, write
from benchmarks.study.store import Store
from demo.clips import draw_scene


def test_a_difference_counts_only_beyond_its_error():
    rng = np.random.default_rng(0)
    before = rng.normal(1, 1, (3, 16))  # clips differ widely, but alike in both
    assert Difference.of(before, before - 0.2).direction == "lower"
    assert Difference.of(before, before + 0.2).direction == "higher"
    assert Difference.of(before, rng.normal(1, 1, (3, 16))).direction == ""
    by_seed = np.array([[-1.0], [0.5], [1.0]]) + np.zeros((3, 16))
    assert Difference.of(before, before + 0.2 + by_seed).direction == ""  # every seed says something else


def test_clips_without_a_value_do_not_count():
    before, after = np.ones((3, 4)), np.full((3, 4), 3.0)
    after[1, 2] = np.nan
    assert Difference.of(before, after) == Difference(2.0, 0.0)


@pytest.mark.parametrize(
    ("expected", "seen", "result"),
    [
        ("lower", "lower", HOLDS),
        ("lower", "higher", OPPOSITE),
        ("higher", "", OPEN),
        ("not lower", "lower", OPPOSITE),
        ("not lower", "", KEPT),
    ],
)
def test_verdicts(expected, seen, result):
    assert verdict(expected, seen) == result


def test_sentences_state_the_numbers_and_nothing_that_was_not_seen():
    spreads = Spread(0.2, 0.01), Spread(0.1, 0.02)
    assert sentence("jerk", ("a", "b"), spreads, "lower") == (
        "*jerk* is 0.200 ± 0.010 with a and 0.100 ± 0.020 with b: lower, by a factor of 2."
    )
    assert sentence("jerk", ("a", "b"), spreads, "").endswith(": no significant difference.")


def test_spread_is_that_of_the_seeds():
    assert Spread.of(np.array([1.0, 2.0, 3.0])) == Spread(2.0, 1.0)


@pytest.mark.parametrize("plan", [FULL, SMOKE])
def test_every_comparison_has_its_cells_and_measures(plan):
    made = experiments(plan)
    assert len({each.key for each in made}) == len(made)
    for each in made:
        assert set(each.measures) <= set(MEASURES) and set(each.pictured) <= set(each.cells)
        for comparison in each.comparisons:
            assert {comparison.before, comparison.after} <= set(each.cells)
            assert comparison.measure in MEASURES
        for cell in each.cells.values():  # only lengths of the common training can be snapshots of it
            if isinstance(cell.lora, Training):
                assert cell.lora.steps in plan.training_steps


def test_held_out_clips_are_neither_trained_on_nor_measured_elsewhere():
    assert FIRST_SCENE > 1000 + 64 and FIRST_SCENE + FULL.clips < 10_000


def test_the_real_clip_has_no_error():
    scene = draw_scene(5)
    values = dict(zip(MEASURES, measure(scene.render(), scene), strict=True))
    assert values["background"] < 1e-6 and values["first"] == 0 and values["position"] < 0.5
    assert values["colour"] == values["shape"] == values["direction"] == 1
    still = dict(zip(MEASURES, measure(scene.render([0] * 81), scene), strict=True))
    assert still["change"] == still["jerk"] == 0 and still["motion"] > 0.1 and values["change"] > 0


def test_stored_results_are_not_computed_again(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"x": np.arange(3)}

    for _ in range(2):
        store = Store(tmp_path)
        assert store.get(compute, "cell", Cell("demo"), 0)["x"].tolist() == [0, 1, 2]
    store.get(compute, "cell", Cell("demo", 1.4), 0)
    assert len(calls) == 2


def test_a_failed_computation_leaves_nothing(tmp_path):
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).get(fail, "cell", 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "cell", "anew"), [("LORA", Cell("demo"), True), ("LORA", Cell(None), False), ("DIT", Cell(None), True)]
)
def test_another_demo_model_makes_anew_what_comes_of_it(tmp_path, monkeypatch, file, cell, anew):
    path = Store(tmp_path).path("cell", cell, 1)
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"another")
    monkeypatch.setattr(store_module, file, other)
    assert (Store(tmp_path).path("cell", cell, 1) != path) == anew


def test_time_is_counted_once_and_not_twice_for_what_is_nested(tmp_path, monkeypatch):
    clock = iter([0.0, 10.0, 14.0, 20.0])  # outer starts, inner starts, inner ends, outer ends
    monkeypatch.setattr(store_module.time, "monotonic", lambda: next(clock))
    store = Store(tmp_path)

    def outer():
        return store.get(lambda: {"x": np.zeros(1)}, "inner", 1)

    for _ in range(2):
        store.get(outer, "outer", 1)
    assert store.seconds == 20


def test_notes_belong_to_sections(monkeypatch, tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("Some words.\n\n## noise\nA remark.\n\nAnother.\n\n## text\nMore.\n")
    monkeypatch.setattr("benchmarks.study.report.NOTES", path)
    assert notes() == {"noise": "A remark.\n\nAnother.", "text": "More."}


class OneProcess:
    """Does at once what it is given."""

    def __init__(self, *options): ...

    def __enter__(self):
        return self

    def __exit__(self, *error): ...

    def submit(self, work, *arguments):
        done = Future()
        done.set_result(work(*arguments))
        return done


def canned(kind, key):
    if kind == "clips":
        return {"latents": np.zeros((key[0], 16, 21, 8, 8), np.float16)}
    if kind == "lora":
        shapes = {"down": (1, 256), "up": (256, 1)}
        return {
            f"{step}:blocks.0.self_attn.q:{part}": np.zeros(shapes[part], np.float32)
            for step in key[3]
            for part in shapes
        }
    if kind == "attention":
        return {"maps": np.full((SMOKE.attention_clips, 2, 6, 21, 21), 1 / 21)}
    return {"measured": np.ones((SMOKE.clips, len(MEASURES))), "shown": np.zeros((SMOKE.clips, 8, 64, 64, 3), np.uint8)}


def test_the_report_asks_for_nothing_that_was_not_computed_ahead(tmp_path, monkeypatch):
    asked = []

    def get(store, compute, kind, *key):
        asked.append(store.path(kind, *key).name)
        return canned(kind, key)

    monkeypatch.setattr(Store, "get", get)
    monkeypatch.setattr(ahead, "ProcessPoolExecutor", OneProcess)
    bench = Bench(Store(tmp_path), SMOKE)
    ahead.compute_ahead(bench, 2)
    before, asked[:] = set(asked), []
    write(bench, tmp_path / "study.md", "python -m benchmarks.study")
    assert len(set(asked)) > 30 and set(asked) <= before
