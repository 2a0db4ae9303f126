"""The objective and the adapters against the reference's training step."""

import pytest
import torch

from pusa_core import Lora, LoraLayer, fafm_loss, sample_sigmas
from pusa_core.training import attach_lora, detach_lora, loss_weight
from pusa_core.training.objective import with_regions


@pytest.fixture(scope="module")
def step(golden):
    return golden("train_step")


def attach_golden(model, step, prefix="lora0."):
    adapters = attach_lora(model, rank=8)
    with torch.no_grad():
        for name, adapter in adapters.items():
            adapter.down.copy_(step[f"{prefix}{name}.lora_A.default.weight"])
            adapter.up.copy_(step[f"{prefix}{name}.lora_B.default.weight"])
    return adapters


def loss_of(model, step, index):
    """The reference gives the network tau and noises with the nearest table entry; here both are sigma."""
    timestep = step[f"step{index}.timestep"]
    table = step["scheduler_timesteps_1000"]
    ids = (table[None, None] - timestep[..., None]).abs().argmin(-1)
    sigmas = step["scheduler_sigmas_1000"][ids]

    def network(latents, _, context):
        return model(latents, timestep, context)

    noise = step[f"step{index}.noise"]
    return fafm_loss(network, step["latents"], step["context"], noise, sigmas, weighting="reference")


def test_loss_and_lora_gradients_match_the_reference(tiny_model, step):
    model = tiny_model()
    adapters = attach_golden(model, step)
    loss = loss_of(model, step, 0)
    assert loss.item() == pytest.approx(step["step0.loss"].item(), rel=1e-4)
    loss.backward()
    for name, adapter in adapters.items():
        for letter, factor in (("A", adapter.down), ("B", adapter.up)):
            expected = step[f"grad.{name}.lora_{letter}.default.weight"]
            assert (factor.grad - expected).abs().max() < 1e-5, name


def test_full_gradients_match_the_reference(tiny_model, step, golden_info):
    model, expected = tiny_model(), golden_info["train_full"]
    loss = loss_of(model, step, 0)
    loss.backward()
    norm = torch.stack([parameter.grad.norm() for parameter in model.parameters()]).norm().item()
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-4)
    assert norm == pytest.approx(expected["grad_norm_total"], rel=1e-4)


def test_three_optimiser_steps_match_the_reference(tiny_model, step):
    model = tiny_model()
    adapters = attach_golden(model, step)
    parameters = [p for a in adapters.values() for p in (a.down, a.up)]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)
    for index in range(3):
        loss = loss_of(model, step, index)
        assert loss.item() == pytest.approx(step[f"step{index}.loss"].item(), rel=1e-4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, adapter in adapters.items():
        for letter, factor in (("A", adapter.down), ("B", adapter.up)):
            expected = step[f"lora_after3.{name}.lora_{letter}.default.weight"]
            # Adam divides by the root of a squared gradient, which enlarges the rounding of near-zero gradients
            assert (factor - expected).abs().max() < 2e-4, name


def test_bell_weight_is_the_reference_table(step):
    expected = step["scheduler_weights_1000"]
    assert torch.allclose(loss_weight(step["scheduler_sigmas_1000"]).float(), expected, atol=1e-3)


def test_weighting_is_per_frame_unless_the_reference_is_asked_for():
    latents, noise = torch.zeros(1, 1, 2, 1, 1), torch.ones(1, 1, 2, 1, 1)
    sigmas = torch.tensor([[1.0, 0.5]])

    def half_right(latents, timestep, context):  # error 1 in frame 0, none in frame 1
        return torch.tensor([0.0, 1.0]).view(1, 1, 2, 1, 1)

    weight = loss_weight(sigmas)[0]
    losses = {w: fafm_loss(half_right, latents, None, noise, sigmas, weighting=w).item() for w in ("none", "bell")}
    assert losses["none"] == pytest.approx(0.5)
    assert losses["bell"] == pytest.approx(weight[0].item() / 2)
    reference = fafm_loss(half_right, latents, None, noise, sigmas, weighting="reference").item()
    assert reference == pytest.approx(0.5 * weight.mean().item())


def test_batch_of_two_is_the_mean_of_two_batches(tiny_model, golden):
    model, data = tiny_model(), golden("dit_forward")
    noise, sigmas = torch.randn(2, 16, 5, 6, 8), torch.rand(2, 5)
    for weighting in ("none", "bell", "reference"):
        both = fafm_loss(model, data["batch2.x"], data["batch2.context"], noise, sigmas, weighting=weighting)
        single = [
            fafm_loss(
                model, data["batch2.x"][i : i + 1], data["batch2.context"][i : i + 1], noise[i : i + 1],
                sigmas[i : i + 1], weighting=weighting,
            )
            for i in range(2)
        ]  # fmt: skip
        assert both.item() == pytest.approx(sum(single).item() / 2, rel=1e-5)


def test_sigmas_are_independent_or_shared():
    generator = torch.Generator().manual_seed(0)
    independent = sample_sigmas(64, 21, generator=generator)
    assert (independent.std(dim=1) > 0).all()
    assert independent.mean().item() == pytest.approx(0.748, abs=0.02)  # of 5 u / (1 + 4 u)
    shared = sample_sigmas(64, 21, p_async=0.0, generator=generator)
    assert (shared == shared[:, :1]).all()
    mixed = sample_sigmas(2000, 2, p_async=0.3, shift=1.0, generator=generator)
    assert (mixed[:, 0] != mixed[:, 1]).float().mean().item() == pytest.approx(0.3, abs=0.04)
    assert mixed.mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("arguments", [{"p_async": 1.5}, {"shift": 0.0}])
def test_nonsense_sampling_is_refused(arguments):
    with pytest.raises(ValueError, match="is"):
        sample_sigmas(1, 1, **arguments)


def test_unknown_weighting_and_wrong_sigmas_are_refused():
    latents = torch.zeros(1, 1, 2, 1, 1)
    with pytest.raises(ValueError, match="choose one of none, bell, reference"):
        fafm_loss(lambda *_: latents, latents, None, latents, torch.ones(1, 2), weighting="belt")
    with pytest.raises(ValueError, match=r"need \[1, 2\]"):
        fafm_loss(lambda *_: latents, latents, None, latents, torch.ones(1, 3))


def test_fresh_adapters_change_nothing_and_come_off_again(tiny_model, golden):
    model, data = tiny_model(), golden("dit_forward")
    names = list(model.state_dict())
    with torch.no_grad():
        before = model(data["x"], data["v_mixed.timestep"], data["context"])
        adapters = attach_lora(model, rank=4)
        during = model(data["x"], data["v_mixed.timestep"], data["context"])
        lora = detach_lora(model, adapters)
        after = model(data["x"], data["v_mixed.timestep"], data["context"])
    assert torch.equal(before, during) and torch.equal(before, after)
    assert list(model.state_dict()) == names
    assert isinstance(lora, Lora) and len(lora.layers) == 30
    assert all(isinstance(layer, LoraLayer) and layer.rank == 4 and layer.scale == 1 for layer in lora.layers.values())


def test_a_rank_above_the_layer_is_refused(tiny_model):
    with pytest.raises(ValueError, match="rank 97 does not fit"):
        attach_lora(tiny_model(), rank=97)


def test_regions_are_boxes_anywhere_as_often_as_wanted():
    generator, own = torch.Generator().manual_seed(0), torch.full((5,), 2.0)
    drawn = [with_regions(own, (6, 8), p_region=0.4, shift=1.0, generator=generator) for _ in range(1500)]
    changed = torch.stack([levels != 2.0 for levels in drawn])
    assert changed.flatten(1).any(dim=1).float().mean().item() == pytest.approx(0.4, abs=0.04)
    assert changed.float().mean(dim=0).min() > 0.02  # every token, in the corners of the clip too
    first = [levels[levels != 2.0][0] for levels in drawn if (levels != 2.0).any()]
    assert torch.stack(first).mean().item() == pytest.approx(0.5, abs=0.05)
    for levels in drawn[:50]:
        single = levels[levels != 2.0].unique()
        if len(single) == 1:
            box = (levels != 2.0).nonzero()
            assert len(box) == (box.amax(dim=0) - box.amin(dim=0) + 1).prod()


def test_a_probability_of_regions_is_one():
    with pytest.raises(ValueError, match=r"p_region is 1.5; it is a probability, 0 to 1"):
        with_regions(torch.zeros(3), (2, 2), p_region=1.5)
