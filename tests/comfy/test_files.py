"""Model files of every form, in a real ComfyUI."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pusa_core import Lora, LoraLayer, load_checkpoint, save_lora
from pusa_core.weights.demo_files import DIT
from tests.core.test_lora_forms import FORMS as LORA_FORMS
from tests.core.test_lora_forms import written
from tests.support.comfy_scripts import run_script
from tests.support.forms import FORMS, QUANTISED, write
from tools.comfy_client import ComfyClient, Graph, RunFailed

from ..support.graphs import image_to_video, node, parts

TARGETS = ("self_attn.q", "self_attn.o", "cross_attn.k", "cross_attn.v", "ffn.0", "ffn.2")
SHARDS = [f"sharded-{number:05}-of-00002.safetensors" for number in (1, 2)]


def make_lora(weights: dict[str, torch.Tensor]) -> Lora:
    """Another rank at each layer, full differences of a norm, a bias and a modulation."""
    generator = torch.Generator().manual_seed(3)
    layers = {}
    for rank, target in enumerate(TARGETS, 2):
        rows, columns = weights[f"blocks.1.{target}.weight"].shape
        down = torch.randn(rank, columns, generator=generator) / columns**0.5
        layers[f"blocks.1.{target}"] = LoraLayer(down, torch.randn(rows, rank, generator=generator) / 8)
    names = ("blocks.1.norm3.weight", "blocks.1.ffn.0.bias", "blocks.1.modulation", "blocks.0.self_attn.norm_q.weight")
    diffs = {name: torch.randn(weights[name].shape, generator=generator) / 16 for name in names}
    return Lora(layers, diffs=diffs)


@pytest.fixture(scope="module")
def models(server_base: Path) -> Path:
    """The demo model and a LoRA in all forms, among the models of the server."""
    dits, loras = server_base / "models" / "diffusion_models", server_base / "models" / "loras"
    weights = load_file(DIT)
    for form in (*FORMS, *QUANTISED):
        path = write(form, weights, dits)
        if form in QUANTISED:
            save_file(load_checkpoint(path), dits / f"plain_{path.name}")
    items = sorted(weights.items())
    save_file(dict(items[:90]), dits / SHARDS[0])
    save_file(dict(items[90:]), dits / SHARDS[1])
    lora = make_lora(weights)
    save_lora(lora, loras / "saved.safetensors")
    weights_alone = {name: diff for name, diff in lora.diffs.items() if not name.endswith("modulation")}
    save_lora(Lora(lora.layers, diffs=weights_alone), loras / "weights_alone.safetensors")
    tables = ("blocks.0.modulation", "blocks.1.modulation", "head.modulation")
    save_lora(Lora({}, diffs={name: torch.ones_like(weights[name]) for name in tables}), loras / "tables.safetensors")
    save_lora(Lora(lora.layers), loras / "layers_only.safetensors")
    for form, (layer_name, down, up) in LORA_FORMS.items():
        save_file(written(lora, layer_name, down, up), loras / f"form {form}.safetensors")
    save_file(written(lora, lambda name: name) | {"blocks.0.what.weight": torch.zeros(2)}, loras / "partly.safetensors")
    return server_base / "models"


def file_of(form: str) -> str:
    suffix = ".pt" if form.startswith("pt") else ".safetensors"
    return form.replace(" ", "_").replace(",", "").strip(".") + suffix


def load(name: str, lora_name: str = "none", strength: float = 1.4) -> Graph:
    return image_to_video("0:0.3") | {"model": parts(name, lora_name, strength)["model"]}


@pytest.mark.parametrize("form", [*FORMS[1:], SHARDS[1]])
def test_every_full_precision_form_makes_the_same_video(comfy: ComfyClient, models: Path, form: str) -> None:
    expected = comfy.latent(load("original.safetensors"), "video")
    name = form if form in SHARDS else file_of(form)
    # on a CPU ComfyUI computes in fp32; a bf16 file holds the weights rounded
    assert (comfy.latent(load(name), "video") - expected).abs().max() < (0.2 if form == "bf16" else 1e-3)


@pytest.mark.parametrize("form", QUANTISED)
def test_a_quantised_file_makes_the_video_of_its_weights(comfy: ComfyClient, models: Path, form: str) -> None:
    quantised, plain = (comfy.latent(load(name), "video") for name in (file_of(form), f"plain_{file_of(form)}"))
    assert (quantised - plain).abs().mean() < 0.02 * plain.std()


@pytest.mark.parametrize("form", LORA_FORMS)
def test_every_lora_form_makes_the_same_video(comfy: ComfyClient, models: Path, form: str) -> None:
    base = comfy.latent(load("original.safetensors"), "video")
    expected = comfy.latent(load("original.safetensors", "layers_only.safetensors"), "video")
    assert (expected - base).abs().max() > 0.01
    video = comfy.latent(load("original.safetensors", f"form {form}.safetensors"), "video")
    assert torch.equal(video, expected)


def test_core_lora_loader_makes_the_same_video(comfy: ComfyClient, models: Path) -> None:
    """Of a LoRA without modulation tables, which ComfyUI's own loader passes over."""
    ours = load("original.safetensors", "weights_alone.safetensors", 1.0)
    core = load("original.safetensors")
    lora = {"lora_name": "weights_alone.safetensors", "strength_model": 1.0}
    core |= {"lora": node("LoraLoaderModelOnly", model=["model", 0], **lora)}
    core["video"]["inputs"]["model"] = ["lora", 0]
    assert (comfy.latent(ours, "video") - comfy.latent(core, "video")).abs().max() < 1e-4


def report_of(comfy: ComfyClient, name: str, lora_name: str) -> str:
    graph = {"model": parts(name, lora_name)["model"], "text": node("PreviewAny", source=["model", 1])}
    return comfy.run(graph)["text"]["text"][0]


def test_the_report_says_what_was_recognised(comfy: ComfyClient, models: Path) -> None:
    text = report_of(comfy, "diffusers.safetensors", "saved.safetensors")
    assert "diffusers.safetensors: Wan text-to-video 6 layers of width 256; diffusers names, float16; 177" in text
    assert "saved.safetensors: LoRA of 6 layers of rank 2 to 7, no alpha and 4 full differences, float32" in text
    assert "10 of 10 updates matched; strength 1.4" in text
    assert "NOT USED: blocks.0.what.weight" in report_of(comfy, "original.safetensors", "partly.safetensors")


def test_a_pickle_with_code_is_refused(comfy: ComfyClient, models: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"head.modulation": Evil()}, models / "diffusion_models" / "evil.pt")
    torch.save({"a.lora_A.weight": Evil()}, models / "loras" / "evil.pt")
    for graph in (load("evil.pt"), load("original.safetensors", "evil.pt")):
        with pytest.raises(RunFailed, match=r"evil\.pt cannot be read .*it would call io\.open"):
            comfy.latent(graph, "video")
    assert not (tmp_path / "ran").exists()


def inspect_load(comfyui: Path, models: Path, *arguments: str) -> dict:
    return json.loads(run_script(comfyui, "run_load.py", models, *arguments))


@pytest.mark.parametrize("form", ["scaled_fp8", "weight_scale", "comfy_quant", "header, prefix", "diffusers names"])
def test_quantised_weights_stay_quantised(comfyui: Path, models: Path, form: str) -> None:
    kinds = inspect_load(comfyui, models, file_of(form))["dtypes"]
    assert kinds["float8_e4m3fn"] == (66 if form == "scaled_fp8" else 60), kinds  # all linear layers in the file


def test_a_saved_lora_changes_every_weight_it_names_in_core(comfyui: Path, models: Path) -> None:
    result = inspect_load(comfyui, models, "original.safetensors", "saved.safetensors")
    assert not result["not loaded"]
    assert result["changed"] == result["targets"] and len(result["targets"]) == 10
    assert result["error"] < 1e-3


def test_a_lora_changes_modulation_tables_alike_in_comfyui_and_merged(comfyui: Path, models: Path) -> None:
    result = inspect_load(comfyui, models, "original.safetensors", "tables.safetensors")
    assert result["tables changed"] == 3
    assert result["table error"] < 1e-3
    assert result["tables restored"]


def test_a_lora_on_an_e5m2_file_with_scales_is_no_coarser_than_in_core(comfyui: Path, models: Path) -> None:
    result = inspect_load(comfyui, models, "scaled_fp8_e5m2.safetensors", "layers_only.safetensors")
    ours, core = (sum(result[name]) / len(TARGETS) for name in ("weight errors", "core weight errors"))
    assert ours < 1.05 * core


def test_the_choice_of_attention_of_a_layer_reaches_comfyui(comfyui: Path, models: Path) -> None:
    """Newer versions read it; older ones leave it."""
    setting = '{"attention": "comfy_kitchen_int8"}'
    name = "blocks.1.self_attn.comfy_attention.config"
    tensors = load_file(models / "diffusion_models" / "original.safetensors")
    tensors[f"model.diffusion_model.{name}"] = torch.tensor(list(setting.encode()), dtype=torch.uint8)
    renamed = {
        key if "." not in key or key.startswith("model.") else f"model.diffusion_model.{key}": value
        for key, value in tensors.items()
    }
    save_file(renamed, models / "diffusion_models" / "attention.safetensors")
    result = inspect_load(comfyui, models, "attention.safetensors")
    assert result["attention"] == {name: setting}
    assert "NOT USED" not in result["report"]
