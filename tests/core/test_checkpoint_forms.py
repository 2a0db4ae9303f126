"""The demo model written in every form that Wan files come in is the same model."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pusa_core import Given, Lora, LoraLayer, WanConfig, WanModel, load_checkpoint, load_lora, merge_lora
from pusa_core.media.demo_text import encode_text
from pusa_core.sampling.pipeline import Settings, generate_latents
from pusa_core.weights.checkpoints import expected_shapes, parse_checkpoint, read_checkpoint
from pusa_core.weights.demo_files import DIT
from tests.conftest import max_error
from tests.support.forms import FORMS, QUANTISED, diffusers_name, write
from tools.gguf_files import write_gguf


@pytest.fixture(scope="module")
def weights():
    return load_file(DIT)


@pytest.mark.parametrize("form", FORMS)
def test_full_precision_forms_are_exact(weights, tmp_path, form):
    loaded = load_checkpoint(write(form, weights, tmp_path))
    assert loaded.keys() == weights.keys()
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}.get(form, torch.float16)
    assert all(torch.equal(loaded[name], weights[name].to(dtype)) for name in weights)


@pytest.mark.parametrize("form", QUANTISED)
def test_quantised_forms_are_within_a_step(weights, tmp_path, form):
    loaded = load_checkpoint(write(form, weights, tmp_path))
    assert loaded.keys() == weights.keys()
    for name, weight in weights.items():
        value, weight = loaded[name].float(), weight.float()
        bits, smallest = (2, 2**-16) if "e5m2" in form else (3, 2**-9)
        scale = weight.abs().max() / 448 if QUANTISED[form].scaled else torch.tensor(1.0)
        # half a step, one for a number below the smallest normal one, and bf16's own rounding
        step = weight.abs() * (2.0 ** -(bits + 1) + 2**-8) + smallest * max(scale.item(), 1e-3)
        assert ((value - weight).abs() <= step).all(), name
        assert loaded[name].is_floating_point() and loaded[name].itemsize > 1


def sampled(weights):
    """Latents of a short video by a model of these weights."""
    with torch.device("meta"):
        model = WanModel(WanConfig.from_state_dict(weights))
    model.load_state_dict(weights, assign=True)
    given = Given.empty(torch.zeros(1, 16, 4, 8, 8), 4)
    prompt = encode_text("a large red square moves quickly left")
    return generate_latents(model.float(), given, prompt, encode_text(""), Settings(width=64, height=64, steps=4))


@pytest.fixture(scope="module")
def video(weights):
    return sampled(weights)


@pytest.mark.parametrize("form", [*FORMS, *QUANTISED])
def test_every_form_makes_the_same_video(weights, video, tmp_path, form):
    difference = sampled(load_checkpoint(write(form, weights, tmp_path))) - video
    error = (difference.square().mean().sqrt() / video.std()).item()
    # bf16 rounds to 2**-9 of a weight, fp8 to 2**-4 or, e5m2, 2**-3
    assert error <= (0.2 if form in QUANTISED else 0.02 if form == "bf16" else 0), error


def test_diffusers_agrees_on_its_names(weights):
    files = pytest.importorskip("diffusers.loaders.single_file_utils")
    theirs = files.convert_wan_transformer_to_diffusers(dict(weights))
    assert {diffusers_name(name) for name in weights} == set(theirs)


@pytest.mark.parametrize("form", [*FORMS, *QUANTISED])
def test_the_report_names_the_form(weights, tmp_path, form):
    text = read_checkpoint(write(form, weights, tmp_path)).describe()
    assert "layers of width 256; " in text and f"{len(weights)} tensors" in text
    words = {**dict.fromkeys(FORMS, "float16"), "fp32": "float32", "bf16": "bfloat16", "diffusers": "diffusers names"}
    words |= {form: kind.words for form, kind in QUANTISED.items()}
    assert words[form] in text


def test_tensors_without_a_place_are_named(weights, tmp_path, caplog):
    save_file({**weights, "blocks.0.extra.weight": torch.zeros(2)}, tmp_path / "x.safetensors")
    assert load_checkpoint(tmp_path / "x.safetensors").keys() == weights.keys()
    assert "NOT USED: 1, such as blocks.0.extra.weight" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.1.ffn.0.weight": None}, r"lacks 1 tensors, such as \['blocks.1.ffn.0.weight'\]"),
        ({"blocks.1.ffn.0.weight": torch.zeros(3, 3)}, "blocks.1.ffn.0.weight is \\(3, 3\\)"),
        ({"blocks.1.ffn.0.weight": torch.zeros(1024, 256, dtype=torch.int64)}, "torch.int64"),
        ({"blocks.1.ffn.0.weight": torch.full((1024, 256), torch.nan)}, "blocks.1.ffn.0.weight contains NaN"),
        ({"head.modulation": torch.zeros(())}, "not a whole Wan video model"),
        ({"patch_embedding.weight": torch.zeros(5)}, "not a Wan video model"),
        ({"text_embedding.0.weight": None}, "not a whole Wan video model"),
        ({"blocks.0.attn1.to_q.weight": torch.zeros(256, 256)}, "mixes two models"),
        ({"blocks.7.ffn.0.scale_weight": torch.ones(())}, "blocks.7.ffn.0 has a scale but no weight"),
        ({"blocks.0.ffn.0.scale_weight": torch.ones(7)}, r"scale of blocks.0.ffn.0 has shape \(7,\)"),
        ({"blocks.0.ffn.0.scale_weight": torch.tensor(torch.nan)}, "one finite number"),
        (
            {
                "blocks.0.ffn.0.weight": torch.zeros(1024, 256, dtype=torch.int8),
                "blocks.0.ffn.0.weight_scale": torch.ones(1),
            },
            "quantised to torch.int8 in a way that the file does not name",
        ),
        ({"blocks.0.ffn.0.comfy_quant": torch.zeros(5, dtype=torch.uint8)}, "not a JSON object"),
        (
            {"blocks.0.ffn.0.comfy_quant": torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8)},
            "quantised as nvfp4, which is only read in ComfyUI",
        ),
    ],
)
def test_what_is_no_whole_model_is_refused_by_name(weights, tmp_path, change, message):
    changed = {name: value for name, value in {**weights, **change}.items() if value is not None}
    save_file(changed, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=message) as error:
        load_checkpoint(tmp_path / "x.safetensors")
    assert "x.safetensors" in str(error.value)


@pytest.mark.parametrize("text", ["{", '{"layers": 3}', '{"layers": {"blocks.0.ffn.0": 1}}', "[" * 100_000])
def test_a_malformed_header_is_refused(weights, tmp_path, text):
    save_file(weights, tmp_path / "x.safetensors", metadata={"_quantization_metadata": text})
    with pytest.raises(ValueError, match=r"x\.safetensors: its _quantization_metadata cannot be understood"):
        load_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["wan.gguf", "renamed.safetensors", "renamed.pt"])
@pytest.mark.parametrize("load", [load_checkpoint, load_lora])
def test_a_gguf_file_is_refused_with_the_loader_for_it(weights, tmp_path, name, load):
    write_gguf(weights, "Q8_0", tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is a GGUF file; .* Unet Loader \\(GGUF\\) of the pack ComfyUI-GGUF"):
        load(tmp_path / name)


def write_shards(weights, folder, names):
    for index, name in enumerate(names):
        save_file(dict(sorted(weights.items())[index :: len(names)]), folder / name)


SHARDS = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]


@pytest.mark.parametrize("ask", ["model.safetensors.index.json", SHARDS[0], SHARDS[2]])
def test_shards_are_found(weights, tmp_path, ask):
    write_shards(weights, tmp_path, SHARDS)
    index = {"weight_map": {name: SHARDS[i % 3] for i, name in enumerate(sorted(weights))}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = load_checkpoint(tmp_path / ask)
    assert loaded.keys() == weights.keys() and all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_a_missing_shard_is_named(weights, tmp_path):
    write_shards(weights, tmp_path, SHARDS)
    (tmp_path / SHARDS[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r"model-00002-of-00003\.safetensors.* one of 3 files"):
        load_checkpoint(tmp_path / SHARDS[0])


def test_merging_leaves_the_file_alone(weights, tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(weights, path)
    before = path.read_bytes()
    loaded = load_checkpoint(path)
    with torch.device("meta"):
        model = WanModel(WanConfig.from_state_dict(loaded))
    model.load_state_dict(loaded, assign=True)
    merge_lora(model, Lora({"blocks.0.ffn.0": LoraLayer(torch.ones(1, 256), torch.ones(1024, 1))}))
    assert max_error(model.blocks[0].ffn[0].weight.float(), weights["blocks.0.ffn.0.weight"].float() + 1) < 1e-3
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("config", "parameters", "digest"),
    [
        (WanConfig(5120, 13824, 40, 40), 14_288_491_584, "aafcfd9672c3a2456dc46e1cb6e52c70"),
        (WanConfig(1536, 8960, 12, 30), 1_418_996_800, "9269f8db"),
    ],
    ids=["14B", "1.3B"],
)
def test_names_and_shapes_are_those_of_the_released_models(config, parameters, digest):
    """The digest is the one by which the public reference recognises the released files."""
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in WanModel(config).state_dict().items()}
    assert shapes == dict(expected_shapes(config))
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == parameters
    entries = [text for name, shape in shapes.items() for text in (name, f"{name}:{'_'.join(map(str, shape))}")]
    assert hashlib.md5(",".join(sorted(entries)).encode()).hexdigest().startswith(digest)


def test_a_released_size_is_named():
    config = WanConfig(1536, 8960, 12, 30)
    tensors = {name: torch.zeros(shape, device="meta") for name, shape in expected_shapes(config)}
    assert "text-to-video 1.3B, 30 layers of width 1536" in parse_checkpoint(tensors, {}, "x").describe()
