"""Histories that the network makes itself: nothing is learnt from their own frames."""

import pytest
import torch

from pusa_core import fafm_loss
from pusa_core.training.config_file import parse_config
from pusa_core.training.data import generator
from pusa_core.training.history import OwnHistory, history_frames, make_history
from pusa_core.training.objective import with_history
from tests.core.test_training_data_batches import batches, clips, parts, same  # noqa: F401
from tests.support.training_videos import required_options


def test_a_history_is_told_by_its_levels():
    def told(*levels):
        return history_frames(torch.tensor(levels)).int().tolist()

    assert told(0.0, 0.1, 0.3, 0.9, 0.9) == [0, 1, 1, 0, 0]
    assert told(0.2, 0.9, 0.9) == [1, 0, 0] and told(0.0, 0.9, 0.9) == [0, 0, 0]
    for none in ((0.5, 0.5, 0.5), (0.1, 0.9, 0.1, 0.9), (0.1, 0.2, 0.5, 0.4), (0.9, 0.1, 0.1), (0.7,)):
        assert not any(told(*none))
    found = with_history(torch.rand(8), p_history=1.0, generator=generator(3))
    assert history_frames(found).sum() == ((found > 0) & (found < found[-1])).sum() > 0


def test_a_share_of_the_batches_has_histories_of_the_networks_own_and_nothing_else_changes(batches):  # noqa: F811
    plain, own, again = batches(p_history=0.9), *(batches(p_history=0.9, p_own_history=0.5) for _ in range(2))
    made = []
    for index in range(40):
        batch = own[index]
        assert same(batch, plain[index]) and plain[index].history is None
        if batch.history is not None:
            made.append(batch.history)
            assert batch.history.frames.tolist() == [history_frames(levels).tolist() for levels in batch.sigmas]
            assert torch.equal(batch.history.level, again[index].history.level)
    assert 10 <= len(made) <= 30 and any(history.frames.any() for history in made)
    assert len({level for history in made for level in history.level.tolist()}) == 2 * len(made)


def test_processes_share_the_histories_of_one_process(batches):  # noqa: F811
    options = {"p_history": 1.0, "p_own_history": 0.5}
    together = batches(batch=4, **options)
    shares = [batches(batch=2, rank=rank, world=2, **options) for rank in range(2)]
    made = 0
    for index in range(12):
        whole, *parts_of_it = (each[index].history for each in (together, *shares))
        assert all((part is None) == (whole is None) for part in parts_of_it)
        if whole is not None:
            made += 1
            assert torch.equal(whole.level, torch.cat([part.level for part in parts_of_it]))
            assert torch.equal(whole.frames, torch.cat([part.frames for part in parts_of_it]))
    assert made > 2


def test_a_network_that_is_right_makes_the_clip_itself():
    latents, noise = torch.randn(2, 16, 4, 2, 2), torch.randn(2, 16, 4, 2, 2)
    frames = torch.tensor([[False, True, False, False], [True, True, True, False]])
    history = OwnHistory(frames, torch.tensor([0.3, 0.9]))

    def exact(noisy, timestep, context):
        level = (timestep / 1000).view(-1, 1, 1, 1, 1)
        added = (noisy - (1 - level) * latents) / level
        assert not torch.isclose(added, noise, atol=1e-3).any(dim=0).float().mean() > 0.1  # none that it gets later
        return (noisy - latents) / level

    made, trained = make_history(exact, latents, torch.zeros(2, 1, 8), noise, history)
    assert torch.allclose(made, latents, atol=1e-5) and torch.equal(trained, ~frames)
    made, _ = make_history(lambda noisy, *_: torch.zeros_like(noisy), latents, torch.zeros(2, 1, 8), noise, history)
    assert torch.equal((made != latents).flatten(3).any(dim=3).all(dim=1), frames)


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


def test_histories_of_its_own_need_histories(tmp_path):
    with pytest.raises(ValueError, match=r"train\.p_own_history is set, but there is no history; set train\.p_history"):
        parse_config({}, required_options(tmp_path) | {"train.p_own_history": "0.5"})
