"""The noise schedule and the language of noise levels."""

import time

import pytest
import torch

from pusa_core import flow_sigmas, parse_noise_levels, sigma_table, switch_step
from pusa_core.sampling.schedule import check_entries, named_noise_levels, parse_entries


def test_schedule_has_the_published_values():
    sigmas = flow_sigmas(4)
    assert torch.allclose(1000 * sigmas, torch.tensor([1000, 937.5, 833.3333, 625, 0]))
    assert flow_sigmas(10)[0] == 1 and flow_sigmas(10)[-1] == 0
    assert torch.allclose(flow_sigmas(4, shift=1.0), torch.tensor([1, 0.75, 0.5, 0.25, 0]))


@pytest.mark.parametrize(
    ("steps", "shift", "message"),
    [
        (0, 5.0, "steps is 0"),
        (4, 0.0, "shift is 0"),
        (4, float("inf"), "shift is inf"),
        (4, float("nan"), "shift is nan"),
    ],
)
def test_schedule_refuses_nonsense(steps, shift, message):
    with pytest.raises(ValueError, match=message):
        flow_sigmas(steps, shift)


@pytest.mark.parametrize(("steps", "high"), [(4, 2), (10, 5), (30, 13), (50, 21)])
def test_steps_of_the_high_noise_expert(steps, high):
    assert switch_step(flow_sigmas(steps), 0.875) == high


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [1, 1, 1, 1, 1]),
        ("0:0", [0, 1, 1, 1, 1]),
        ("0:0.3, -1:0.7", [0.3, 1, 1, 1, 0.7]),
        ("1-3:.2", [1, 0.2, 0.2, 0.2, 1]),
        ("-2--1 : 0.5", [1, 1, 1, 0.5, 0.5]),
        ("0-4:0..1", [0, 0.25, 0.5, 0.75, 1]),
        ("0:0.3\n0:0.3; 2:1e-1", [0.3, 1, 0.1, 1, 1]),
        ("p0:0, p13:0.3", [0, 1, 1, 1, 0.3]),  # 5 latent frames hold pixel frames 0, 1-4, 5-8, 9-12, 13-16
        ("p4-5:0.2, P-1:0", [1, 0.2, 0.2, 1, 0]),
        ("p0-8: 0..0.5, 3:0.7", [0, 0.25, 0.5, 0.7, 1]),
        ("p-4--1:0.5", [1, 1, 1, 1, 0.5]),
    ],
)
def test_noise_levels_are_parsed(text, expected):
    assert torch.allclose(parse_noise_levels(text, 5), torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "FRAME:LEVEL"),
        ("zero:0.3", "FRAME:LEVEL"),
        ("0:abc", "not a number"),
        ("0:", "FRAME:LEVEL"),
        ("5:0.3", "latent frame 5 does not exist"),
        ("-6:0.3", "does not exist"),
        ("0:1.5", "outside 0"),
        ("0:-0.1", "outside 0"),
        ("0:nan", "not a number"),
        ("0:1_0", "not a number"),
        ("\u0663:0.3", "FRAME:LEVEL"),  # digits are those of ASCII,
        ("3-1:0.2", "runs backwards"),
        ("0:0.3, 0:0.4", "contradict"),
        ("0-2:0, -5:0.5", "contradict"),
        ("2:0..1", "at least two latent frames"),
        ("p5-8:0..1", "at least two latent frames"),
        ("p17:0.3", "pixel frame 17 does not exist; there are 17"),
        ("p-18:0.3", "pixel frame -18 does not exist"),
        ("p8-1:0.3", "runs backwards"),
        ("p1:0.3, 1:0.4", "contradict"),
    ],
)
def test_bad_noise_levels_are_refused_with_the_reason(text, message):
    with pytest.raises(ValueError, match=message):
        parse_noise_levels(text, 5)


def test_table_is_the_product():
    table = sigma_table(torch.tensor([1.0, 0.5, 0.0]), torch.tensor([1.0, 0.0, 0.2]))
    assert torch.allclose(table, torch.tensor([[1, 0, 0.2], [0.5, 0, 0.1], [0, 0, 0]]))


def test_the_switch_is_a_step_that_starts_at_the_boundary():
    assert switch_step(torch.tensor([1.0, 0.875, 0.5, 0.0]), 0.875) == 2


def test_a_switch_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="at nan; it must be a number"):
        switch_step(flow_sigmas(4), float("nan"))


LONG = {
    "a typo at the end": ",".join(f"{i % 900}:{i % 7 / 7:.3f}" for i in range(2000)) + ",x",
    "81 entries and a typo": ", ".join(f"{i}:0.5" for i in range(81)) + ", 3",
    "one long number": "1" * 20_000,
    "a long frame number": "1" * 20_000 + ":0",
    "a long level": "0:" + "9" * 20_000,
    "blanks": "0" + " " * 20_000 + "x",
    "dashes": "0-" * 10_000,
    "a contradiction": ",".join(f"{i}-{i + 99}:0.5" for i in range(900)) + ", 7:0.25",
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_long_text_is_refused_at_once_and_not_quoted_as_a_whole(text):
    seconds = []
    for _ in range(3):
        start = time.process_time()
        with pytest.raises(ValueError, match="noise level") as error:
            check_entries(parse_entries(text), 1000)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.1  # a few milliseconds on an idle machine
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("text", ["", "0:0.3, -1:0.7", "3--1:0.2", "-1-3:0.5", "0-9:0.2, -3--1:0.4", "0:0, -1:1, 0:0"])
def test_text_that_fits_some_length_is_accepted_before_the_length_is_known(text):
    check_entries(parse_entries(text), 1000)


@pytest.mark.parametrize(
    "text", ["0:0.3, 0:0.4", "-1:0.3, -1:0.4", "3-1:0.2", "-1--3:0.2", "p1:0, 1:0.1, -1:0", "4000:0", "2:0..1"]
)
def test_text_that_fits_no_length_is_refused_before_the_length_is_known(text):
    with pytest.raises(ValueError, match="noise level"):
        check_entries(parse_entries(text), 1000)


def test_overlapping_entries_that_agree_are_accepted():
    expected = {0: 0, 1: 0.25, 2: 0.5, 3: 0.75, 4: 1}
    assert named_noise_levels("0-4:0..1, 1-3:0.25..0.75, 2:0.5", 5) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["0-4:0..1, 1-3:0.75..0.25", "0-4:0.5, 4:0.1, 1-2:0.5", "0-9:0, 3-5:0, 4-6:0, 5:0.1"])
def test_overlapping_entries_that_differ_in_one_frame_contradict(text):
    with pytest.raises(ValueError, match="contradict each other"):
        named_noise_levels(text, 10)
