"""Noise levels of one of Wan2.2's experts: drawn within its range, given frames below it."""

import pytest
import torch

from pusa_core import sample_sigmas
from pusa_core.training.config_file import parse_config
from pusa_core.training.evaluate import validation_sigmas
from tests.support.training_videos import required_options

HIGH, LOW = (0.875, 1.0), (0.0, 0.875)


def draw(noise_range=(0.0, 1.0), *, batch=4000, frames=5, **options):
    return sample_sigmas(batch, frames, noise_range=noise_range, generator=torch.Generator().manual_seed(0), **options)


@pytest.mark.parametrize("noise_range", [HIGH, LOW, (0.3, 0.6)])
@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_levels_are_those_of_the_full_range_that_lie_in_it(noise_range, shift):
    low, high = noise_range
    found = draw(noise_range, shift=shift).flatten()
    assert low <= found.min() and found.max() <= high
    everything = draw(shift=shift, batch=100_000).flatten()
    expected = everything[(everything >= low) & (everything <= high)]
    quantiles = torch.linspace(0.05, 0.95, 19)
    difference = found.quantile(quantiles) - expected[:100_000].quantile(quantiles)
    assert difference.abs().max() < 0.02 * (high - low)


def test_the_full_range_gives_the_bits_that_it_gave_before_there_was_one():
    u = torch.rand(4000, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(), 5 * u / (1 + 4 * u))
    assert torch.equal(draw(p_given=0.5), draw())


def test_given_frames_of_the_high_noise_expert_are_below_its_range():
    found = draw(HIGH, p_given=0.3)
    below = found < 0.875
    assert below.float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert not below.all(dim=1).any()
    assert found[below].min() < 0.05 and found[below].max() > 0.8
    assert torch.equal(draw(LOW, p_given=0.3), draw(LOW))  # nothing is below 0


def test_a_sample_with_one_level_has_no_given_frames():
    found = draw(HIGH, p_given=0.9, p_async=0.0)
    assert (found == found[:, :1]).all() and found.min() >= 0.875
    assert draw(HIGH, p_given=1.0, frames=3).min() >= 0.875  # all of them below: none is


def test_validation_is_within_the_range():
    assert list(validation_sigmas((0.0, 1.0))) == ["0.1", "0.3", "0.5", "0.7", "0.9"]
    assert list(validation_sigmas(HIGH)) == ["0.8875", "0.9125", "0.9375", "0.9625", "0.9875"]
    assert list(validation_sigmas(LOW).values()) == pytest.approx([0.0875, 0.2625, 0.4375, 0.6125, 0.7875])


@pytest.mark.parametrize("text", ["[1, 0.875]", "[0.5, 0.5]", "[0, 1.5]", "[-0.1, 1]", "[0.5]", "[0, 0.5, 1]"])
def test_a_range_that_is_none_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"train\.noise_range is \[.*the lower one first"):
        parse_config({}, required_options(tmp_path) | {"train.noise_range": text})
    with pytest.raises(ValueError, match=r"p_given is 2"):
        draw(HIGH, p_given=2)
