"""Learning rate, moving average, recomputation, estimate and plot of a training, each by itself."""

import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.resume_kills import command
from pusa_core.cli.train import parse_arguments
from pusa_core.sampling.keyframes import latent_length
from pusa_core.training import fafm_loss
from pusa_core.training.config import TrainOptions
from pusa_core.training.estimate import estimate
from pusa_core.training.network import build_network, read_source, trainable
from pusa_core.training.optimizer import Ema, build_optimizer
from pusa_core.training.plot import draw_losses, smoothed
from pusa_core.training.schedule import learning_rate


@pytest.fixture(scope="module")
def config_of(tmp_path_factory):
    """Options of a training of the demo model, with flags."""
    folder = tmp_path_factory.mktemp("clips")
    return lambda *flags: parse_arguments(command(folder, folder / "run", *flags)[3:])[1]


def rates(**options):
    made = TrainOptions(lr=0.01, steps=10, **options)
    return [learning_rate(made, step) for step in range(10)]


def test_the_rate_warms_up_and_follows_its_schedule():
    assert rates() == [0.01] * 10
    assert rates(warmup=4)[:5] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])
    assert rates(schedule="linear") == pytest.approx([0.01 * (10 - step) / 10 for step in range(10)])
    cosine = rates(schedule="cosine", warmup=2)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.01)
    pytorchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)
    for rate in cosine[2:]:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        pytorchs.step()


def test_the_moving_average_is_exchanged_and_put_back():
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    ema = Ema({"weight": parameter}, decay=0.75)
    parameter.data.fill_(5.0)
    ema.update()
    assert ema.values["weight"].item() == 0.75 * 1 + 0.25 * 5
    ema.exchange()
    assert ema.exchanged and parameter.item() == 2.0 and ema.values["weight"].item() == 5.0
    ema.exchange()
    assert not ema.exchanged and parameter.item() == 5.0 and ema.values["weight"].item() == 2.0


def test_eight_bit_adam_names_what_it_lacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ValueError, match="needs bitsandbytes"):
        build_optimizer(TrainOptions(optimizer="adamw8bit"), {"weight": torch.nn.Parameter(torch.zeros(1))})


def gradients(config, frames=9, size=4):
    """``frames`` in pixels, ``size`` in latents."""
    model, adapters = build_network(read_source(config), config, "cpu")
    with torch.no_grad():
        for adapter in adapters.values():
            adapter.up.fill_(0.01)
    random = torch.Generator().manual_seed(0)
    latent_frames = latent_length(frames)
    latents, noise = (torch.randn(1, 16, latent_frames, size, size, generator=random) for _ in range(2))
    context, sigmas = torch.randn(1, 24, 4096, generator=random), torch.rand(1, latent_frames, generator=random)
    torch.manual_seed(0)
    fafm_loss(model, latents, context, noise, sigmas).backward()
    return {name: parameter.grad for name, parameter in trainable(model).items()}


@pytest.mark.parametrize("flags", [["--train.rank=8", "--train.dropout=0.2"], ["--train.mode=full"]])
def test_recomputing_blocks_and_keeping_inputs_in_main_memory_change_no_gradient(config_of, flags):
    plain = gradients(config_of(*flags, "--train.gradient_checkpointing=false"))
    frozen_weights = "--train.mode=full" not in flags
    for more in ([], ["--train.offload_checkpoints=true"], ["--train.offload_weights=true"] * frozen_weights):
        found = gradients(config_of(*flags, *more))
        assert found.keys() == plain.keys()
        assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_every_parameter_of_both_attentions_and_the_ffn_gets_a_gradient(config_of):
    found = gradients(config_of("--train.rank=256"))
    assert len(found) == 6 * 10 * 2  # blocks, layers, factors
    assert all(grad.any() for grad in found.values())


@pytest.mark.parametrize("flags", [["--train.rank=8"], ["--train.mode=full"]])
def test_the_estimate_counts_the_trained_numbers(config_of, flags):
    config = config_of(*flags)
    source = read_source(config)
    found = estimate(source, config, torch.device("cpu"))
    model, _ = build_network(source, config, "cpu")
    count = sum(parameter.numel() for parameter in trainable(model).values())
    assert found.trained == count
    fixed = sum(parameter.nbytes for parameter in model.parameters() if not parameter.requires_grad)
    assert found.weights + found.training == fixed + count * 16  # weight, gradient, two moments, all fp32


def test_recomputing_takes_less_memory_and_more_time_by_the_estimate(config_of):
    plain, recomputed = (
        estimate(read_source(config), config, torch.device("cpu"))
        for config in (config_of("--train.gradient_checkpointing=false"), config_of())
    )
    assert recomputed.activations < plain.activations
    assert 1.25 * plain.flops < recomputed.flops < 1.5 * plain.flops


def saved_bytes(model, latents, timestep):
    """What autograd keeps of a forward pass."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(latents, timestep, torch.randn(1, 8, 4096))
    return sum(storage.nbytes() for storage in kept.values())


def test_the_estimate_counts_what_levels_within_frames_keep_in_memory(config_of):
    flags = "--train.rank=8", "--train.gradient_checkpointing=false"
    plain, regions = config_of(*flags), config_of(*flags, "--train.p_region=0.5")
    source = read_source(plain)
    model, _ = build_network(source, plain, "cpu")
    frames, side = latent_length(plain.data.frames), plain.data.sizes[0][0] // 8
    latents, timestep = torch.randn(1, 16, frames, side, side), 1000 * torch.rand(1, frames)
    by_token = timestep[..., None, None].expand(1, frames, side // 2, side // 2)
    found = saved_bytes(model, latents, by_token) - saved_bytes(model, latents, timestep)
    estimated = [estimate(source, config, torch.device("cpu")).activations for config in (regions, plain)]
    assert 0.8 < (estimated[0] - estimated[1]) / found < 1.2  # the first block's tokens need no gradient


@pytest.mark.parametrize("flags", [["--train.rank=16"], ["--train.mode=full"]])
def test_the_estimate_counts_nearly_all_multiplications_of_a_step(config_of, flags):
    config = config_of(*flags)
    with FlopCounterMode(display=False) as counter:
        gradients(config, frames=config.data.frames, size=8)
    found = estimate(read_source(config), config, torch.device("cpu")).flops
    assert 0.9 < found / counter.get_total_flops() < 1.1  # it is not exact about the text, the first and last layer


def test_bf16_weights_keep_fp32_adapters(config_of):
    model, adapters = build_network(read_source(config := config_of("--model.dtype=bf16")), config, "cpu")
    assert model.blocks[0].ffn[0].base.weight.dtype == torch.bfloat16
    assert all(adapter.up.dtype == adapter.down.dtype == torch.float32 for adapter in adapters.values())


def test_the_plot_shows_every_curve():
    losses = [(step, 1 / step) for step in range(1, 101)]
    with_validation = draw_losses(losses, [(50, 0.3), (100, 0.2)])
    colors = {color for _, color in with_validation.getcolors(1 << 20)}
    assert {(0x1F, 0x5F, 0xBF), (0xD9, 0x54, 0x1E)} <= colors
    assert (0xD9, 0x54, 0x1E) not in {color for _, color in draw_losses(losses, []).getcolors(1 << 20)}
    assert draw_losses([], []).size == draw_losses([(1, 2.0)], []).size


def test_the_running_mean_of_a_constant_is_the_constant():
    assert smoothed([(step, 2.0) for step in range(200)]) == [(step, 2.0) for step in range(200)]
