"""Training on a history: its levels are those of sampling, and what the network makes of it is not learnt from."""

import pytest
import torch

from pusa_core import fafm_loss, sigma_table
from pusa_core.training.config_file import parse_config
from pusa_core.training.data import generator
from pusa_core.training.history import OwnHistory, make_history, with_history
from tests.core.test_training_data_batches import batches, clips, parts, same  # noqa: F401
from tests.support.training_videos import required_options


def draw(number, frames=6, p_history=1.0, noise=(0.1, 0.4)):
    sigmas = torch.rand(frames, generator=generator(number))
    return sigmas, *with_history(sigmas, p_history=p_history, noise=noise, generator=generator(number, "history"))


def test_a_history_is_at_a_share_of_the_level_of_all_others():
    seen, shares = set(), []
    for number in range(300):
        sigmas, levels, history = draw(number)
        assert torch.equal(levels[history:], sigmas[-1].expand(6 - history))
        share = (levels[0] / levels[-1]).item()
        # as sampling has it for given frames of that noise level, in any step
        expected = sigma_table(sigmas[-1:], torch.tensor([share] * history + [1.0] * (6 - history)))[0]
        assert torch.allclose(levels, expected)
        seen.add(history)
        shares.append(share)
    assert seen == {1, 2, 3, 4, 5}
    assert min(shares) == pytest.approx(0.1, abs=0.01) and max(shares) == pytest.approx(0.4, abs=0.01)


def test_some_samples_have_a_history_and_a_picture_has_none():
    with_one = sum(draw(number, p_history=0.3)[2] > 0 for number in range(1000))
    assert with_one / 1000 == pytest.approx(0.3, abs=0.05)
    sigmas, levels, history = draw(0, frames=1)
    assert history == 0 and torch.equal(sigmas, levels)


def test_the_other_draws_of_a_batch_stay_what_they_are(batches):  # noqa: F811
    plain, histories = batches(), batches(p_history=1.0, history_noise=(0.0, 0.0), p_own_history=0.5)
    again = batches(p_history=1.0, history_noise=(0.0, 0.0), p_own_history=0.5)
    made = 0
    for index in range(20):
        batch = histories[index]
        assert same(batch, again[index])
        assert all(torch.equal(*pair) for pair in zip(parts(batch)[:3], parts(plain[index])[:3], strict=True))
        for levels in batch.sigmas:
            assert levels[0] == 0 < levels[-1] and levels[1] in (0, levels[-1])
        if batch.history is not None:
            made += 1
            assert torch.equal(batch.history.frames, (batch.sigmas == 0).sum(dim=1))
            assert torch.equal(batch.history.level, again[index].history.level)
    assert 4 <= made <= 16


def test_a_network_that_is_right_makes_the_clip_itself():
    latents, noise = torch.randn(2, 16, 4, 2, 2), torch.randn(2, 16, 4, 2, 2)
    history = OwnHistory(torch.tensor([1, 3]), torch.tensor([0.3, 0.9]))

    def exact(noisy, timestep, context):
        level = (timestep / 1000).view(-1, 1, 1, 1, 1)
        return (noisy - latents) / level

    made, trained = make_history(exact, latents, torch.zeros(2, 1, 8), noise, history)
    assert torch.allclose(made, latents, atol=1e-5)
    assert trained.tolist() == [[False, True, True, True], [False, False, False, True]]
    made, _ = make_history(lambda noisy, *_: torch.zeros_like(noisy), latents, torch.zeros(2, 1, 8), noise, history)
    changed = (made != latents).flatten(3).any(dim=3).all(dim=1)
    assert torch.equal(changed, ~trained)


@pytest.mark.parametrize("weighting", ["none", "bell", "reference"])
@pytest.mark.parametrize("per_token", [False, True])
def test_frames_that_are_not_trained_on_have_no_part_in_the_loss(weighting, per_token):
    latents, noise = torch.randn(2, 16, 4, 4, 4), torch.randn(2, 16, 4, 4, 4)
    sigmas = torch.rand(2, 1).expand(2, 4) if not per_token else torch.rand(2, 1, 1, 1).expand(2, 4, 2, 2)
    trained = torch.tensor([[False, False, True, True]] * 2)

    def loss(given):
        def seen(noisy, timestep, context):
            return noisy * 0.5

        return fafm_loss(
            seen, latents, torch.zeros(2, 1, 8), noise, sigmas, weighting=weighting, given=given, trained=trained
        )

    wild = torch.where(trained[:, None, :, None, None], latents, 100.0)
    assert torch.equal(loss(wild), loss(latents))
    late, late_noise, levels = latents[:, :, 2:], noise[:, :, 2:], sigmas[:, 2:]
    alone = fafm_loss(lambda x, *_: x * 0.5, late, torch.zeros(2, 1, 8), late_noise, levels, weighting=weighting)
    assert torch.allclose(loss(wild), alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"history_noise": "[0.4, 0.1]"}, r"train\.history_noise is \[0\.4, 0\.1\]; use two numbers from 0 to below 1"),
        ({"history_noise": "[0.4]"}, r"train\.history_noise is \[0\.4\]"),
        ({"history_noise": "[]"}, r"train\.history_noise is \[\]"),
        ({"p_own_history": "0.5"}, r"train\.p_own_history is set, but there is no history; set train\.p_history"),
    ],
)
def test_options_of_a_history_that_make_no_sense_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        parse_config({}, required_options(tmp_path) | {f"train.{name}": value for name, value in options.items()})
