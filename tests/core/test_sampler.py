"""The sampler against trajectories recorded from the public reference."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pusa_core import (
    WanConfig,
    WanModel,
    euler_sample,
    flow_sigmas,
    guided_velocity,
    sigma_table,
    start_latents,
    switch_step,
)
from tests.conftest import max_error
from tests.support.cached import cached_velocity

TRAJECTORIES = [
    "traj_t2v_cfg1",
    "traj_t2v_cfg5",
    "traj_i2v_m0_cfg1",
    "traj_i2v_m0.2_cfg1",
    "traj_startend_m0.3_0.7_cfg1",
    "traj_startend_m0.3_0.7_cfg5",
    "traj_ext4_m0_0.3_0.4_0.5_cfg1",
]
EXPERTS = ["traj_wan22_t2v_cfg1_4steps", "traj_wan22_i2v_m0.2_cfg1_4steps"]


def given_frames(recorded, info, inputs):
    """Clean given latents and noise levels of a trajectory.

    The recorded first latents hold the given frames already noised, so the clean ones are recovered by inversion.
    """
    levels = torch.ones(21)
    for index, level in zip(*_cond(info), strict=True):
        levels[index] = level
    m = levels.view(1, 1, -1, 1, 1)
    first = recorded["latents_in"][:1]
    clean = torch.where(m < 1, (first - m * inputs["noise_seed0"]) / (1 - m).clamp(min=1e-6), torch.zeros(()))
    return clean, levels


def _cond(info):
    cond = info["cond"] or {"indices": [], "multipliers": []}
    return cond["indices"], cond["multipliers"]


def run(tiny_model, golden, info, name, experts=("dit_tiny",)):
    recorded, inputs, details = golden(name), golden("traj_inputs"), info["files"][f"{name}.safetensors"]
    given, levels = given_frames(recorded, details, inputs)
    steps = details["args"]["num_inference_steps"]
    sigmas = flow_sigmas(steps)
    table = sigma_table(sigmas, levels)
    cfg, truncate = details["args"]["cfg_scale"], details["cond"] is not None
    latents = start_latents(inputs["noise_seed0"], given, table[0])
    starts = [0, steps] if len(experts) == 1 else [0, switch_step(sigmas, 0.875), steps]
    seen = []
    with torch.no_grad():
        for expert, start, end in zip(experts, starts[:-1], starts[1:], strict=True):
            velocity = guided_velocity(tiny_model(expert), inputs["context_posi"], inputs["context_nega"], cfg)

            def spy(latents, timesteps, velocity=velocity):
                seen.append(timesteps)
                return velocity(latents, timesteps)

            latents = euler_sample(spy, latents, table[start : end + 1], truncate_timesteps=truncate)
    return latents, torch.stack(seen), given, recorded


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_trajectory_matches_the_reference(tiny_model, golden, golden_info, name):
    latents, timesteps, given, recorded = run(tiny_model, golden, golden_info, name)
    assert max_error(timesteps, recorded["timestep_vectors"]) < 1e-3
    assert max_error(latents, recorded["final_latents"]) < (5e-3 if "cfg5" in name else 1e-3)
    if name == "traj_i2v_m0_cfg1":
        assert torch.equal(latents[:, :, 0], given[:, :, 0])


@pytest.mark.parametrize("name", EXPERTS)
def test_two_expert_trajectory_matches_the_reference(tiny_model, golden, golden_info, name):
    experts = ("dit_tiny", "dit_tiny_low")
    latents, _, _, recorded = run(tiny_model, golden, golden_info, name, experts)
    assert max_error(latents, recorded["final_latents"]) < 1e-3


def test_frozen_frames_keep_their_bits_even_with_a_velocity_of_nan():
    latents = torch.randn(1, 16, 3, 4, 4)
    latents[0, 0, 1, 0, 0] = -0.0
    table = sigma_table(flow_sigmas(4), torch.tensor([1.0, 0.0, 1.0]))

    def velocity(x, timesteps):
        return torch.where(timesteps.view(1, 1, -1, 1, 1) == 0, torch.nan, x)

    out = euler_sample(velocity, latents, table)
    assert torch.equal(out[:, :, 1].view(torch.int32), latents[:, :, 1].view(torch.int32))
    assert not torch.equal(out[:, :, 0], latents[:, :, 0])


def test_a_frame_whose_truncated_timestep_is_zero_keeps_its_bits():
    """As in the public scripts: what is left of its noise is not removed."""
    table = torch.tensor([[1.0, 0.0009, 0.5], [0.5, 0.0004, 0.25], [0.0, 0.0, 0.0]])
    latents = torch.randn(1, 2, 3, 2, 2)
    out = euler_sample(lambda x, t: torch.ones_like(x), latents, table, truncate_timesteps=True)
    assert torch.equal(out[:, :, 1], latents[:, :, 1])
    assert torch.allclose(out[:, :, 0], latents[:, :, 0] - 1)


def test_a_frame_kept_as_it_is_starts_with_its_bits():
    given = torch.full((1, 2, 2, 2, 2), -0.0)
    start = start_latents(torch.full_like(given, 3.0), given, torch.tensor([0.0, 1.0]))
    assert torch.equal(start[:, :, 0].view(torch.int32), given[:, :, 0].view(torch.int32))


def test_start_reads_given_frames_only_where_the_level_is_below_one():
    noise, given = torch.randn(1, 4, 3, 2, 2), torch.full((1, 4, 3, 2, 2), float("nan"))
    given[:, :, 1] = torch.randn(1, 4, 2, 2)
    start = start_latents(noise, given, torch.tensor([1.0, 0.25, 1.0]))
    assert torch.equal(start[:, :, 0], noise[:, :, 0])
    assert torch.allclose(start[:, :, 1], 0.75 * given[:, :, 1] + 0.25 * noise[:, :, 1])


def test_rows_of_the_table_need_not_be_proportional():
    """A staircase: frame 1 moves only after frame 0 is done. The exact solution of v = const is linear in sigma."""
    table = torch.tensor([[1.0, 1.0], [0.5, 1.0], [0.0, 0.6], [0.0, 0.0]])
    velocity = torch.randn(1, 2, 2, 2, 2)
    latents = torch.randn(1, 2, 2, 2, 2)
    seen = []
    out = euler_sample(lambda x, t: seen.append(t) or velocity, latents, table)
    assert torch.allclose(out, latents - velocity, atol=1e-6)
    assert torch.allclose(torch.stack(seen), 1000 * table[:-1])


def test_callback_reports_the_clean_guess():
    target = torch.randn(1, 2, 2, 2, 2)
    noise = torch.randn(1, 2, 2, 2, 2)
    table = sigma_table(flow_sigmas(3), torch.ones(2))
    guesses = []
    euler_sample(lambda x, t: noise - target, noise, table, callback=lambda s, d, x: guesses.append(d))
    assert len(guesses) == 3
    assert all(torch.allclose(guess, target, atol=1e-5) for guess in guesses)


def test_table_of_another_frame_count_is_refused():
    with pytest.raises(ValueError, match=r"\[steps \+ 1, 3\]"):
        euler_sample(lambda x, t: x, torch.zeros(1, 2, 3, 2, 2), torch.ones(5, 4))


def test_guidance_without_a_negative_prompt_is_refused():
    with pytest.raises(ValueError, match="cfg is 3"):
        guided_velocity(lambda x, t, c: x, torch.zeros(1, 1, 1), None, 3)


class Recorder(TorchDispatchMode):
    """Counts operations, and those that read a value or move a tensor between devices, as a host must wait for."""

    def __init__(self):
        super().__init__()
        self.count, self.waits = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.count += 1
        devices = {x.device.type for x in (*args, out) if isinstance(x, torch.Tensor) and x.ndim}
        if len(devices) > 1 or func.overloadpacket in (
            torch.ops.aten._local_scalar_dense,
            torch.ops.aten.nonzero,
            torch.ops.aten.equal,
        ):
            self.waits.append(str(func))
        return out


@pytest.mark.parametrize("callback", [None, lambda *_: None])
@pytest.mark.parametrize("refresh", [1, 2])
def test_the_loop_never_waits_for_the_device(callback, refresh):
    """On the meta device, which holds no values. After two steps, which bring tables over, nothing crosses over."""
    with torch.device("meta"):
        model = WanModel(WanConfig(dim=96, ffn_dim=192, num_heads=4, num_layers=2, text_dim=64))
        latents, context = torch.empty(1, 16, 5, 4, 4), torch.empty(1, 3, 64)
    table = sigma_table(flow_sigmas(6), torch.tensor([0.0, 1.0, 0.3, 1.0, 1.0]))
    network = cached_velocity(model, context, context, 3.0, table, refresh)
    waits, own = [], []
    with Recorder() as recorder, torch.inference_mode():

        def velocity(*arguments):
            before = recorder.count
            waits.append(len(recorder.waits))
            out = network(*arguments)
            own.append(recorder.count - before)
            return out

        out = euler_sample(velocity, latents, table, callback=callback)
    assert out.is_meta
    assert waits[2:] == [waits[2]] * 4 and len(recorder.waits) == waits[2] > 0
    assert recorder.count - sum(own) < 6 * 20  # what the loop does around the network
