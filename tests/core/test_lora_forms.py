"""A LoRA written in any spelling that trainers use is the same LoRA."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from pusa_core import Lora, LoraLayer, WanConfig, WanModel, load_lora, merge_lora, save_lora
from tests.conftest import max_error
from tests.support.forms import diffusers_name as parameter_name

CONFIG = WanConfig(dim=128, ffn_dim=256, num_heads=1, num_layers=2, text_dim=64)
LAYERS = ("self_attn.q", "self_attn.o", "cross_attn.k", "cross_attn.v", "ffn.0", "ffn.2")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return WanModel(CONFIG)


@pytest.fixture(scope="module")
def lora(model):
    """Another rank at each layer, all linear layers inside the blocks and two outside."""
    generator = torch.Generator().manual_seed(1)
    names = [f"blocks.{block}.{layer}" for block in range(2) for layer in LAYERS] + ["head.head", "text_embedding.0"]
    layers = {}
    for index, name in enumerate(names):
        rows, columns = model.get_submodule(name).weight.shape
        down = torch.randn(index + 1, columns, generator=generator)
        layers[name] = LoraLayer(down, torch.randn(rows, index + 1, generator=generator))
    return Lora(layers)


def written(lora, layer_name, down=".lora_A.weight", up=".lora_B.weight", alpha=None):
    tensors = {}
    for name, layer in lora.layers.items():
        tensors[layer_name(name) + down], tensors[layer_name(name) + up] = layer.down, layer.up
        if alpha is not None:
            tensors[layer_name(name) + ".alpha"] = torch.tensor(alpha)
    return tensors


def diffusers_name(layer):
    return parameter_name(f"{layer}.weight").removesuffix(".weight")


def underscored(name):
    return name.replace(".", "_")


FORMS = {
    "bare, adapter's name": (lambda name: name, ".lora_A.default.weight", ".lora_B.default.weight"),
    "bare": (lambda name: name, ".lora_A.weight", ".lora_B.weight"),
    "bare, up and down": (lambda name: name, ".lora_down.weight", ".lora_up.weight"),
    "ComfyUI": (lambda name: f"diffusion_model.{name}", ".lora_A.weight", ".lora_B.weight"),
    "ComfyUI, up and down": (lambda name: f"diffusion_model.{name}", ".lora_down.weight", ".lora_up.weight"),
    "kohya": (lambda name: f"lora_unet_{underscored(name)}", ".lora_down.weight", ".lora_up.weight"),
    "VideoX-Fun": (lambda name: f"lora_unet__{underscored(name)}", ".lora_down.weight", ".lora_up.weight"),
    "kohya, diffusers": (
        lambda name: f"lora_unet_{underscored(diffusers_name(name))}",
        ".lora_down.weight",
        ".lora_up.weight",
    ),
    "diffusers": (lambda name: f"transformer.{diffusers_name(name)}", ".lora_A.weight", ".lora_B.weight"),
    "diffusers, bare": (diffusers_name, ".lora_A.weight", ".lora_B.weight"),
    "original behind transformer": (lambda name: f"transformer.{name}", ".lora_A.weight", ".lora_B.weight"),
    "PEFT": (lambda name: f"base_model.model.{name}", ".lora_A.weight", ".lora_B.weight"),
    "PEFT of diffusers": (
        lambda name: f"base_model.model.transformer.{diffusers_name(name)}",
        ".lora_A.my_run.weight",
        ".lora_B.my_run.weight",
    ),
    "compiled": (lambda name: f"_orig_mod.{name}", ".lora_A.weight", ".lora_B.weight"),
    "blocks compiled alone": (
        lambda name: f"transformer.{name.replace('.', '._orig_mod.', 2).replace('._orig_mod.', '.', 1)}",
        ".lora_A.weight",
        ".lora_B.weight",
    ),
    "diffusers, low-noise expert": (
        lambda name: f"transformer_2.{diffusers_name(name)}",
        ".lora_A.weight",
        ".lora_B.weight",
    ),
    "kohya, dots in the block": (
        lambda name: f"lora_unet_{name.replace('.', '_', 1)}",
        ".lora_down.weight",
        ".lora_up.weight",
    ),
    "DiffSynth": (lambda name: f"pipe.dit.{name}", ".lora_A.default.weight", ".lora_B.default.weight"),
}


@pytest.mark.parametrize("alpha", [None, 3.0], ids=["no alpha", "alpha"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_lora(lora, tmp_path, form, alpha):
    save_file(written(lora, *FORMS[form], alpha), tmp_path / "x.safetensors")
    loaded = load_lora(tmp_path / "x.safetensors")
    assert loaded.layers.keys() == lora.layers.keys() and not loaded.unknown
    for name, layer in loaded.layers.items():
        assert torch.equal(layer.down, lora.layers[name].down) and torch.equal(layer.up, lora.layers[name].up)
        assert layer.scale == (1.0 if alpha is None else alpha / layer.rank)


def test_a_pickled_file_is_the_same_lora(lora, tmp_path):
    torch.save(written(lora, *FORMS["bare, adapter's name"]), tmp_path / "pusa_v1.pt")
    assert load_lora(tmp_path / "pusa_v1.pt").layers.keys() == lora.layers.keys()


@pytest.fixture(scope="module")
def diffs(model):
    """A difference for one parameter of every kind."""
    generator = torch.Generator().manual_seed(2)
    names = ("self_attn.norm_q.weight", "self_attn.q.bias", "norm3.weight", "norm3.bias", "modulation", "ffn.0.weight")
    names = (*(f"blocks.1.{name}" for name in names), "head.modulation", "patch_embedding.weight", "head.head.bias")
    return {name: torch.randn(model.get_parameter(name).shape, generator=generator) for name in names}


@pytest.mark.parametrize(
    ("prefix", "weight", "bias"), [("diffusion_model.", "diff", "diff_b"), ("", "w_norm", "b_norm")]
)
def test_full_differences_are_read_and_merged(model, diffs, tmp_path, prefix, weight, bias):
    tensors = {}
    for name, diff in diffs.items():
        layer = name.removesuffix(".weight").removesuffix(".bias")
        tensors[f"{prefix}{layer}.{bias if name.endswith('bias') else weight}"] = diff
    save_file(tensors, tmp_path / "x.safetensors")
    lora = load_lora(tmp_path / "x.safetensors")
    assert lora.diffs.keys() == diffs.keys() and not lora.unknown
    merged = WanModel(CONFIG)
    merged.load_state_dict(model.state_dict())
    merge_lora(merged, lora, 0.5)
    for name, before in model.named_parameters():
        expected = before + 0.5 * diffs[name] if name in diffs else before
        assert torch.equal(merged.get_parameter(name), expected)


def test_saving_keeps_everything(lora, diffs, tmp_path):
    layers = {name: LoraLayer(layer.down, layer.up, 2.0) for name, layer in lora.layers.items()}
    save_lora(Lora(layers, diffs=diffs), tmp_path / "x.safetensors")
    back = load_lora(tmp_path / "x.safetensors")
    assert {name: layer.alpha for name, layer in back.layers.items()} == dict.fromkeys(layers, 2.0)
    assert all(torch.equal(back.diffs[name], diff) for name, diff in diffs.items())
    assert all(name.startswith("diffusion_model.") for name in load_file(tmp_path / "x.safetensors"))


def test_a_convolution_has_low_rank_updates_too(model):
    down, up = torch.randn(3, 16, 1, 2, 2), torch.randn(128, 3, 1, 1, 1)
    merged = WanModel(CONFIG)
    merged.load_state_dict(model.state_dict())
    merge_lora(merged, Lora({"patch_embedding": LoraLayer(down, up)}))
    product = (up.flatten(1) @ down.flatten(1)).view(128, 16, 1, 2, 2)
    assert max_error(merged.patch_embedding.weight, model.patch_embedding.weight + product) < 1e-5


def test_updates_without_a_place_are_named(model, lora, caplog):
    extra = {"img_emb.proj.1": LoraLayer(torch.zeros(2, 8), torch.zeros(8, 2))}
    with torch.no_grad():
        merge_lora(model, Lora({**lora.layers, **extra}, unknown=("what.is.this",)), 0.0)
    assert "14 of 16 updates matched; NOT USED: img_emb.proj.1, what.is.this" in caplog.text


def test_the_log_says_what_a_file_holds(lora, diffs, tmp_path, caplog):
    save_lora(Lora(lora.layers, diffs=diffs), tmp_path / "x.safetensors")
    with caplog.at_level("INFO"):
        load_lora(tmp_path / "x.safetensors")
    assert "LoRA of 14 layers of rank 1 to 14, no alpha and 9 full differences, float32, original names" in caplog.text


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a.hada_w1_a": torch.zeros(2)}, "LoHa"),
        ({"a.lokr_w1": torch.zeros(2)}, "LoKr"),
        ({"a.dora_scale": torch.zeros(2)}, "DoRA"),
        ({"a.lora_magnitude_vector": torch.zeros(2)}, "DoRA"),
        ({"a.lora_magnitude_vector.weight": torch.zeros(2)}, "DoRA"),
        ({"base_model.model.a.lora_magnitude_vector.default.weight": torch.zeros(2)}, "DoRA"),
        ({"a.lora_A.weight": torch.ones(2, 4)}, "no LoRA of a known form"),
        ({"a.lora_A.weight": torch.ones(2, 4), "diffusion_model.a.lora_A.weight": torch.ones(2, 4)}, "twice"),
        ({"a.lora_A.weight": torch.ones(2, 4), "a.lora_B.weight": torch.full((4, 2), torch.nan)}, "NaN"),
        ({"a.lora_A.weight": torch.ones(2, 4), "a.lora_B.weight": torch.ones(4, 2, dtype=torch.int32)}, "int32"),
        ({"a.lora_A.weight": torch.ones(0, 4), "a.lora_B.weight": torch.ones(4, 0)}, "cannot be multiplied"),
        (
            {"a.lora_A.weight": torch.ones(1, 4), "a.lora_B.weight": torch.ones(4, 1), "a.alpha": torch.ones(3)},
            "not one finite number",
        ),
        ({"norm.diff": torch.tensor([torch.inf])}, "norm.weight contains NaN or infinite"),
    ],
)
def test_what_is_no_lora_is_refused_by_name(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=message) as error:
        load_lora(tmp_path / "x.safetensors")
    assert "x.safetensors" in str(error.value)


def test_a_lora_of_the_small_model_is_refused_on_the_large_one_by_name():
    with torch.device("meta"):
        model = WanModel(WanConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=1))
    layer = LoraLayer(torch.zeros(2, 1536), torch.zeros(1536, 2))
    with pytest.raises(ValueError, match=r"made for the 1\.3B model, this is the 14B one"):
        merge_lora(model, Lora({"blocks.0.self_attn.q": layer}))


PEFT = "lora_adapter_metadata"
HEADERS = {
    "PEFT of diffusers": ({PEFT: '{"transformer.r": 8, "transformer.lora_alpha": 32}'}, lambda rank: 32 / rank),
    "PEFT": ({PEFT: '{"r": 8, "lora_alpha": 3.0}'}, lambda rank: 3 / rank),
    "PEFT, by root": ({PEFT: '{"lora_alpha": 4, "use_rslora": true}'}, lambda rank: 4 / rank**0.5),
    "kohya": ({"ss_network_alpha": "16.0", "ss_network_dim": "8"}, lambda rank: 16 / rank),
    "kohya without": ({"ss_network_alpha": "None"}, lambda rank: 1),
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_scale_in_the_header_alone_is_read_and_reported(lora, tmp_path, header):
    metadata, scale = HEADERS[header]
    save_file(written(lora, lambda name: name), tmp_path / "x.safetensors", metadata=metadata)
    loaded = load_lora(tmp_path / "x.safetensors")
    for layer in loaded.layers.values():
        assert layer.scale == pytest.approx(scale(layer.rank))
    assert ("from the header" in loaded.describe()) == (header != "kohya without")


def test_an_alpha_of_a_single_layer_in_the_header_is_read(lora, tmp_path):
    metadata = {PEFT: '{"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"blocks.1.attn2.to_k": 2}}'}
    save_file(written(lora, diffusers_name), tmp_path / "x.safetensors", metadata=metadata)
    layers = load_lora(tmp_path / "x.safetensors").layers
    assert {name for name, layer in layers.items() if layer.alpha == 2} == {"blocks.1.cross_attn.k"}
    assert {layer.alpha for layer in layers.values()} == {2, 8}


def test_an_alpha_beside_the_layer_is_the_one_that_counts(lora, tmp_path):
    tensors = written(lora, lambda name: name, alpha=3.0)
    save_file(tensors, tmp_path / "x.safetensors", metadata={"ss_network_alpha": "16"})
    loaded = load_lora(tmp_path / "x.safetensors")
    assert {layer.alpha for layer in loaded.layers.values()} == {3.0}
    assert "from the header" not in loaded.describe()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({PEFT: "{"}, "scale in its header"),
        ({PEFT: "[1]"}, "scale in its header"),
        ({PEFT: '{"lora_alpha": "x"}'}, "alpha is 'x'"),
        ({PEFT: '{"lora_alpha": [1]}'}, "scale in its header"),
        ({PEFT: '{"lora_alpha": 1, "alpha_pattern": {"q": null}}'}, "scale in its header"),
        ({PEFT: '{"lora_alpha": 1, "alpha_pattern": 3}'}, "alpha_pattern is 3"),
        ({PEFT: '{"lora_alpha": 1' + "0" * 400 + "}"}, "scale in its header"),
        ({PEFT: '{"lora_alpha": 8, "transformer.use_dora": true}'}, "DoRA"),
        ({"ss_network_alpha": "inf"}, "alpha is 'inf'"),
    ],
)
def test_a_header_that_cannot_be_understood_is_refused_by_name(lora, tmp_path, metadata, message):
    save_file(written(lora, lambda name: name), tmp_path / "x.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=message) as error:
        load_lora(tmp_path / "x.safetensors")
    assert "x.safetensors" in str(error.value)
