"""Numbers that are not finite: refused where they come in, and where a computation arrives at them."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from pusa_core import (
    Given,
    Keyframe,
    Settings,
    encode_keyframes,
    euler_sample,
    flow_sigmas,
    generate_latents,
    guided_velocity,
    load_lora,
    load_model,
    merge_lora,
    sigma_table,
)
from pusa_core.sampling.sampler import NotFiniteError
from pusa_core.weights.demo_files import DIT, LORA

BAD = [float("nan"), float("inf"), float("-inf")]
SMALL = Settings(width=32, height=32, frames=5, steps=4)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", ["cfg", "shift"])
def test_settings_refuse_it(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        replace(SMALL, **{name: value})


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_settings_refuse_a_seed_that_no_generator_takes(seed):
    with pytest.raises(ValueError, match=f"seed is {seed}"):
        replace(SMALL, seed=seed)


@pytest.mark.parametrize("value", BAD)
def test_guidance_refuses_it(value):
    with pytest.raises(ValueError, match=f"cfg is {value}"):
        guided_velocity(lambda x, t, c: x, torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), value)


@pytest.mark.parametrize("value", BAD)
def test_a_lora_strength_is_refused_before_a_file_is_read(value, tiny_model):
    with pytest.raises(ValueError, match=f"LoRA strength of lora.safetensors is {value}"):
        load_model("no such file", [("lora.safetensors", value)])
    with pytest.raises(ValueError, match=f"LoRA strength of {LORA.name} is {value}"):
        merge_lora(tiny_model(), load_lora(LORA), value)


@pytest.mark.parametrize("broken", [1, 3])
@pytest.mark.parametrize("value", BAD)
def test_euler_names_the_step_that_was_the_first_to_break(broken, value):
    steps = iter(range(5))

    def velocity(x, timesteps):
        return torch.full_like(x, value if next(steps) >= broken else 0.5)

    with pytest.raises(NotFiniteError, match=f"from step {broken + 1} of 5 on") as error:
        euler_sample(velocity, torch.zeros(1, 2, 3, 4, 4), sigma_table(flow_sigmas(5), torch.ones(3)))
    assert error.value.step == broken


@pytest.fixture(scope="module")
def huge_lora(tmp_path_factory):
    """Finite factors whose product is not."""
    path = tmp_path_factory.mktemp("loras") / "huge.safetensors"
    name = "diffusion_model.blocks.0.ffn.2.lora_{}.weight"
    model = load_model("demo", device="cpu")
    rows, columns = model.get_parameter("blocks.0.ffn.2.weight").shape
    save_file({name.format("A"): torch.full((2, columns), 1e30), name.format("B"): torch.full((rows, 2), 1e30)}, path)
    return path


def generate(model, low=None, **changes):
    given = Given.empty(torch.zeros(1, 16, 1, 4, 4), 2)
    context = torch.zeros(1, 24, 4096)
    return generate_latents(model, given, context, context, replace(SMALL, **changes), low_noise_model=low)


def test_a_video_that_is_not_finite_is_an_error_with_model_lora_and_step(huge_lora):
    model = load_model("demo", [(huge_lora, 1.0)], device="cpu")
    with pytest.raises(NotFiniteError) as error:
        generate(model)
    expected = f"from step 1 of 4 on, computed by {DIT.name}, LoRA huge.safetensors at strength 1;"
    assert expected in str(error.value)


def test_the_step_counts_over_both_models_and_the_model_is_the_one_that_broke(huge_lora):
    low = load_model("demo", [(huge_lora, 1.0)], device="cpu")
    with pytest.raises(NotFiniteError, match=r"from step 3 of 4 on, .*huge\.safetensors"):
        generate(load_model("demo", device="cpu"), low)


def test_with_a_lower_strength_as_the_message_says_the_video_is_finite(huge_lora):
    assert generate(load_model("demo", [(huge_lora, 0.0)], device="cpu"), cfg=1.0).isfinite().all()


def test_given_frames_that_are_not_finite_are_refused():
    given = Given(torch.full((1, 16, 2, 4, 4), torch.nan), torch.zeros(2))
    with pytest.raises(ValueError, match="the latents of the given frames are NaN"):
        generate_latents(
            load_model("demo", device="cpu"), given, torch.zeros(1, 24, 4096), None, replace(SMALL, cfg=1.0)
        )


def test_a_picture_that_is_not_finite_is_refused_by_its_position():
    class Copies:
        def encode(self, frames):
            return frames[:1, :4, :4, :1].expand(1, 4, 4, 16).permute(0, 3, 1, 2)[:, :, None]

    picture = torch.full((1, 32, 32, 3), torch.nan)
    with pytest.raises(ValueError, match="the keyframe at 0 becomes NaN"):
        encode_keyframes(Copies(), [Keyframe(picture)], SMALL)
