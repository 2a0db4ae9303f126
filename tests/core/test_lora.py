"""Reading, merging and writing LoRA files."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from pusa_core import Lora, LoraLayer, load_lora, merge_lora, save_lora
from tests.conftest import GOLDENS, max_error


@pytest.fixture
def pusa_file(golden, tmp_path):
    """The LoRA as Pusa is published: bare names with the adapter's name inside."""
    weights = {k.removeprefix("lora0."): v for k, v in golden("train_step").items() if k.startswith("lora0.")}
    path = tmp_path / "pusa.safetensors"
    save_file(weights, path)
    return path


@pytest.mark.parametrize("strength", [1.0, 1.4, 1.7])
def test_merge_matches_the_reference(tiny_model, golden, pusa_file, strength):
    model, expected = tiny_model(), golden("lora_merge")
    merge_lora(model, load_lora(pusa_file), strength)
    if strength == 1.4:
        for name in ("blocks.0.self_attn.q.weight", "blocks.2.ffn.2.weight"):
            assert max_error(model.get_parameter(name), expected[f"merged1.4.{name}"]) < 1e-6
    with torch.no_grad():
        velocity = model(expected["x"], expected["timestep"], expected["context"])
    assert max_error(velocity, expected[f"y_alpha{strength}"]) < 1e-4


def test_merge_into_bf16_weights_is_the_reference_to_the_last_bits(tiny_model, golden, pusa_file):
    model = tiny_model().bfloat16()
    merge_lora(model, load_lora(pusa_file), 1.4)
    name = "blocks.0.self_attn.q.weight"
    # the reference multiplies in bf16, this project in fp32
    assert max_error(model.get_parameter(name).float(), golden("lora_merge")[f"merged1.4_bf16.{name}"]) < 2.1e-3


def test_alpha_divided_by_rank_where_the_file_has_one(tiny_model, golden):
    model, expected = tiny_model(), golden("lora_merge")
    lora = load_lora(GOLDENS / "lightx2v_like_lora.safetensors")
    assert {layer.scale for layer in lora.layers.values()} == {0.5}
    merge_lora(model, lora)
    with torch.no_grad():
        velocity = model(expected["x"], expected["timestep"], expected["context"])
    assert max_error(velocity, expected["y_lightx2v"]) < 1e-4


def test_saved_lora_reads_back_the_same(tmp_path):
    lora = Lora({"blocks.0.ffn.0": LoraLayer(torch.randn(3, 8), torch.randn(6, 3), alpha=1.5)})
    save_lora(lora, tmp_path / "x.safetensors")
    assert set(load_file(tmp_path / "x.safetensors")) == {
        "diffusion_model.blocks.0.ffn.0.lora_A.weight",
        "diffusion_model.blocks.0.ffn.0.lora_B.weight",
        "diffusion_model.blocks.0.ffn.0.alpha",
    }
    back = load_lora(tmp_path / "x.safetensors").layers["blocks.0.ffn.0"]
    assert torch.equal(back.down, lora.layers["blocks.0.ffn.0"].down) and back.scale == 0.5


def test_a_file_without_lora_is_refused(tmp_path):
    save_file({"some.weight": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x\.safetensors holds no LoRA"):
        load_lora(tmp_path / "x.safetensors")


def test_a_lora_of_another_model_is_refused(tiny_model):
    lora = Lora({"double_blocks.0.img_attn": LoraLayer(torch.zeros(2, 4), torch.zeros(4, 2))})
    with pytest.raises(ValueError, match="no layer of the LoRA exists in the model"):
        merge_lora(tiny_model(), lora)


def test_a_lora_of_another_size_is_refused_and_changes_nothing(tiny_model):
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    good, bad = LoraLayer(torch.ones(2, 96), torch.ones(96, 2)), LoraLayer(torch.ones(2, 64), torch.ones(64, 2))
    with pytest.raises(ValueError, match="another size"):
        merge_lora(model, Lora({"blocks.0.self_attn.q": good, "blocks.0.self_attn.k": bad}))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_mismatched_factors_are_refused(tmp_path):
    save_file({"a.lora_A.weight": torch.zeros(2, 4), "a.lora_B.weight": torch.zeros(4, 3)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="cannot be multiplied"):
        load_lora(tmp_path / "x.safetensors")
