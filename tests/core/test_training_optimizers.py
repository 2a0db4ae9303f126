"""Optimisers by name: their arguments, what they save, and that a resumed run ends with the same bits."""

import json
from typing import get_args

import pytest
import torch
from safetensors.torch import load, save

from benchmarks.resume_kills import command, differences, finish
from pusa_core.training.config import TrainOptions
from pusa_core.training.launch import Launch
from pusa_core.training.optimizer import STATE_BYTES, OptimizerName, ScheduleFreeAverage, build_optimizer
from pusa_core.training.optimizer_state import OptimizerState
from pusa_core.training.schedule import learning_rate
from tests.support.training_runs import refusal

LIBRARY = [name for name in get_args(OptimizerName) if name != "adamw8bit"]  # which needs a GPU
pytest.importorskip("pytorch_optimizer")


def options_of(name, **more):
    return TrainOptions(optimizer=name, lr=1.0 if name == "prodigy" else 1e-2, device="cpu", **more)


class Fit:
    """A matrix in a block, and a vector beside, fitted by an optimiser."""

    def __init__(self, options, rows=48, columns=40):
        random = torch.Generator().manual_seed(1)
        self.parameters = {
            "blocks.0.down": torch.nn.Parameter(torch.randn(rows, columns, generator=random)),
            "head.bias": torch.nn.Parameter(torch.randn(rows, generator=random)),
        }
        self.goal = torch.randn(rows, columns, generator=random)
        self.optimizer = build_optimizer(options, self.parameters)
        self.state = OptimizerState(self.optimizer, self.parameters, Launch(options))

    def steps(self, count):
        for _ in range(count):
            weight, bias = self.parameters.values()
            loss = (weight + bias[:, None] - self.goal).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return loss.item()

    def weights(self):
        return [value.detach().clone() for value in self.parameters.values()]


@pytest.mark.parametrize("name", ["adamw", *LIBRARY])
def test_an_optimiser_goes_on_from_its_saved_state_with_the_same_bits(name):
    options = options_of(name)
    straight, first, second = Fit(options), Fit(options), Fit(options)
    before = straight.steps(1)
    straight.steps(8)
    first.steps(4)
    tensors = load(save({key: value.contiguous() for key, value in first.state.tensors()}))
    numbers = json.loads(json.dumps(first.state.numbers()))
    for value, kept in zip(second.parameters.values(), first.weights(), strict=True):
        value.data.copy_(kept)
    second.state.load(tensors, numbers)
    after = second.steps(5)
    assert after < before
    assert all(map(torch.equal, straight.weights(), second.weights()))


@pytest.mark.parametrize("name", LIBRARY)
def test_the_estimate_knows_how_much_an_optimiser_keeps(name):
    fit = Fit(options_of(name), rows=512, columns=512)
    fit.steps(1)
    state = fit.optimizer.state[fit.parameters["blocks.0.down"]]
    kept = sum(value.nbytes for value in state.values() if isinstance(value, torch.Tensor))
    expected = STATE_BYTES.get(name, 8) * 512 * 512
    assert expected <= kept <= 1.02 * expected  # AdaFactor and CAME: a row and a column more


def test_the_average_of_schedule_free_is_exchanged_and_put_back_to_the_last_bit():
    options = options_of("schedulefree")
    fit = Fit(options)
    fit.steps(7)
    average, trained = ScheduleFreeAverage(fit.parameters, fit.optimizer), fit.weights()
    average.exchange()
    exchanged = fit.weights()
    assert average.exchanged and not torch.equal(exchanged[0], trained[0])
    # the average x of Defazio 2024, by its own definition y = (1 - beta) z + beta x
    beta, z = 0.9, fit.optimizer.state[fit.parameters["blocks.0.down"]]["z"]
    assert torch.allclose((1 - beta) * z + beta * exchanged[0], trained[0], atol=1e-6)
    average.exchange()
    assert not average.exchanged and all(map(torch.equal, fit.weights(), trained))
    straight = Fit(options)
    straight.steps(8)
    fit.steps(1)
    assert all(map(torch.equal, fit.weights(), straight.weights()))


def test_arguments_reach_the_optimiser_and_those_it_does_not_know_are_refused():
    fit = Fit(options_of("prodigy", optimizer_args=("d_coef=2", "betas=[0.8, 0.9]", "safeguard_warmup=True")))
    (group,) = fit.optimizer.param_groups
    assert (group["d_coef"], group["betas"], group["safeguard_warmup"]) == (2, (0.8, 0.9), True)
    assert group["weight_decay"] == 0.01
    with pytest.raises(ValueError, match=r"prodigy takes no d_coeff there, but .*d_coef"):
        Fit(options_of("prodigy", optimizer_args=("d_coeff=2",)))
    with pytest.raises(ValueError, match="adamw takes no lr there"):
        Fit(options_of("adamw", optimizer_args=("lr=1",)))
    with pytest.raises(ValueError, match=r'holds "d_coef"; write NAME=VALUE'):
        options_of("prodigy", optimizer_args=("d_coef",))
    with pytest.raises(ValueError, match="came does not take them"):
        Fit(options_of("came", optimizer_args=("betas=[2, 2, 2]",)))


def test_adamw_is_fused_on_a_cpu_unless_it_is_told_otherwise():
    fused, plain = Fit(options_of("adamw")), Fit(options_of("adamw", optimizer_args=("foreach=False",)))
    assert [fit.optimizer.param_groups[0]["fused"] for fit in (fused, plain)] == [True, None]
    fused.steps(5)
    plain.steps(5)
    for one, other in zip(fused.weights(), plain.weights(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest():
    muon, rest = Fit(options_of("muon", weight_decay=0.5)).optimizer.param_groups
    assert (muon["use_muon"], muon["params"][0].ndim, muon["weight_decay"]) == (True, 2, 0.5)
    assert (rest["use_muon"], rest["params"][0].ndim, rest["weight_decay"]) == (False, 1, 0.5)


def test_rates_and_averages_that_do_not_fit_an_optimiser_are_refused():
    with pytest.raises(ValueError, match=r"train\.lr is 0\.0001, by which prodigy multiplies.*; use 1"):
        TrainOptions(optimizer="prodigy")
    with pytest.raises(ValueError, match=r"train\.lr is 1; use 1e-6 to 1e-2"):
        TrainOptions(lr=1.0)
    with pytest.raises(ValueError, match="averages the weights itself"):
        TrainOptions(optimizer="schedulefree", ema=0.9)


def rates(schedule, steps=10, **more):
    options = TrainOptions(lr=0.01, steps=steps, schedule=schedule, **more)
    return [learning_rate(options, step) for step in range(steps)]


def test_cosine_restarts_and_rex_are_those_of_the_libraries():
    from pytorch_optimizer import REXScheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    restarts = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=4)
    for rate in rates("cosine_restarts", 12, cycles=3):
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        restarts.step()
    rex = REXScheduler(optimizer, total_steps=10, max_lr=0.01, min_lr=0.0)
    assert rates("rex")[1:] == pytest.approx([rex.step() for _ in range(9)])


def test_wsd_is_constant_and_decays_over_the_last_fifth():
    assert rates("wsd", 20) == pytest.approx([0.01] * 17 + [0.0075, 0.005, 0.0025])


@pytest.mark.parametrize("name", ["adafactor", "muon", "prodigy", "schedulefree"])
def test_a_resumed_run_ends_with_the_same_weights(demo_clips, tmp_path, name):
    flags = [f"--train.optimizer={name}", f"--train.lr={1 if name == 'prodigy' else 1e-3}"]
    validated = ["--data.validation=1", "--output.validate_every=2"]
    finish(command(demo_clips, tmp_path / "straight", *flags, *validated, "--train.steps=6"))
    finish(command(demo_clips, tmp_path / "run", *flags, *validated, "--train.steps=4"))
    finish(command(demo_clips, tmp_path / "run", *flags, *validated, "--train.steps=6", "--resume"))
    assert differences(tmp_path / "straight", tmp_path / "run", 6) == []


def test_an_unknown_argument_is_refused_before_anything_is_encoded(demo_clips, tmp_path):
    flags = ["--train.optimizer=lion", "--train.optimizer_args=momentum=1"]
    assert "lion takes no momentum there" in refusal(command(demo_clips, tmp_path / "run", *flags))
    assert not (tmp_path / "run").exists()
