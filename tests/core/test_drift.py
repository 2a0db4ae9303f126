"""Parameter drift, against the merged weights themselves."""

import csv
import json
import math
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pusa_core import Lora, LoraLayer, WanConfig, load_checkpoint, load_lora, merge_lora, save_lora
from pusa_core.analysis.drift import (
    Change,
    WeightReader,
    by_block,
    by_component,
    checkpoint_drift,
    lora_drift,
    most_changed,
    relative_change,
)
from pusa_core.cli.main import main
from pusa_core.weights.checkpoints import expected_shapes
from pusa_core.weights.demo_files import DIT, LORA
from tools.comfyui import PACK

STRENGTH = 1.4


@pytest.fixture(scope="module")
def merged(demo_model):
    """The demo model with its LoRA, in fp64."""
    model = demo_model().double()
    merge_lora(model, load_lora(LORA), STRENGTH)
    return model.state_dict()


def brute_force(before, after, names):
    """``||dW|| / ||W||`` of the named parameters together."""
    change = torch.cat([(after[name].double() - before[name].double()).flatten() for name in names])
    return (change.norm() / torch.cat([before[name].double().flatten() for name in names]).norm()).item()


def test_drift_of_a_lora_is_that_of_the_merged_weights(merged):
    before = load_checkpoint(DIT)
    changes = {change.name: change for change in lora_drift(DIT, load_lora(LORA), STRENGTH)}
    assert changes.keys() == before.keys()
    assert sum(change.change > 0 for change in changes.values()) == 60
    for name, change in changes.items():
        assert change.norm == pytest.approx(before[name].double().norm().item(), rel=1e-6)
        assert change.relative == pytest.approx(brute_force(before, merged, [name]), rel=1e-3, abs=1e-7)


def test_drift_of_two_checkpoints_is_that_of_their_weights(merged, tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({f"model.diffusion_model.{name}": value.float() for name, value in merged.items()}, other)
    before = load_checkpoint(DIT)
    changes = list(checkpoint_drift(DIT, other))
    for change in changes:
        assert change.relative == pytest.approx(brute_force(before, merged, [change.name]), rel=1e-4, abs=1e-7)
    blocks = dict(by_block(changes))
    assert list(blocks) == [str(index) for index in range(6)]
    inside = [name for name in before if name.startswith("blocks.2.")]
    assert blocks["2"] == pytest.approx(brute_force(before, merged, inside), rel=1e-4)
    keys = [name for name in before if ".self_attn.k." in name]
    assert dict(by_component(changes))["self-attention k"] == pytest.approx(brute_force(before, merged, keys), rel=1e-4)
    top = most_changed(changes, 3)
    assert top[0][1] == max(change.relative for change in changes) and top[0][1] >= top[1][1] >= top[2][1]


def test_a_checkpoint_has_not_moved_from_itself():
    assert all(change.relative == 0 for change in checkpoint_drift(DIT, DIT))


def test_every_parameter_belongs_to_a_component():
    names = [name for name, _ in expected_shapes(WanConfig(dim=128, ffn_dim=128, num_heads=1, num_layers=11))]
    changes = [Change(name, 1, 1.0, 0.0) for name in names]
    components = {change.component for change in changes}
    attention = {f"{kind}-attention {part}" for kind in ("self", "cross") for part in "qkvo"}
    others = {"feed-forward", "norms", "modulation", "text embedding", "time embedding", "time projection"}
    assert components == attention | others | {"patch embedding", "head"}
    assert {change.block for change in changes} == {None, *range(11)}


def test_a_change_from_zero_is_infinite_and_no_change_is_none():
    assert relative_change([Change("head.head.bias", 4, 0.0, 1.0)]) == math.inf
    assert relative_change([Change("head.head.bias", 4, 0.0, 0.0)]) == 0


def test_alpha_and_full_differences_count(tmp_path):
    torch.manual_seed(0)
    layer = LoraLayer(torch.randn(4, 256), torch.randn(256, 4), alpha=2.0)
    lora = Lora({"blocks.3.cross_attn.v": layer}, diffs={"blocks.0.norm3.bias": torch.full((256,), 0.5)})
    changes = {change.name: change.change for change in lora_drift(DIT, lora, -2.0)}
    assert changes["blocks.3.cross_attn.v.weight"] == pytest.approx(((layer.up @ layer.down).norm()).item(), rel=1e-5)
    assert changes["blocks.0.norm3.bias"] == pytest.approx(16.0)
    assert sum(change > 0 for change in changes.values()) == 2


def test_weights_come_one_at_a_time_from_any_form(tmp_path, golden):
    """A .pt file, fp8 with a scale, and shards, read as ``load_checkpoint`` reads them."""
    weights = golden("dit_tiny")
    torch.save(weights, tmp_path / "dit.pt")
    name = "blocks.0.ffn.0.weight"
    scaled = dict(weights) | {name: (weights[name] / 2).to(torch.float8_e4m3fn)}
    scaled["blocks.0.ffn.0.scale_weight"] = torch.tensor(2.0)
    save_file(scaled, tmp_path / "fp8.safetensors")
    prefixed = [(f"model.{key}", value) for key, value in sorted(weights.items())]
    for number, part in enumerate((prefixed[:40], prefixed[40:]), start=1):
        save_file(dict(part), tmp_path / f"dit-0000{number}-of-00002.safetensors")
    for file in ("dit.pt", "fp8.safetensors", "dit-00001-of-00002.safetensors"):
        reader, whole = WeightReader(tmp_path / file), load_checkpoint(tmp_path / file)
        assert reader.shapes.keys() == whole.keys()
        for key, value in whole.items():
            assert torch.equal(reader.read(key), value)


def test_models_of_two_sizes_are_refused(golden, tmp_path):
    save_file(golden("dit_tiny"), tmp_path / "tiny.safetensors")
    with pytest.raises(ValueError, match="compare two checkpoints of one size"):
        checkpoint_drift(DIT, tmp_path / "tiny.safetensors")


MEASURE = """
import json, sys
import torch
from benchmarks.memory import MB, resident
from pusa_core.analysis.drift import checkpoint_drift

small, *large = sys.argv[1:]
list(checkpoint_drift(small, small))  # brings PyTorch's own code into memory
start = resident("VmHWM")
changes = list(checkpoint_drift(*large))
print(json.dumps([(resident("VmHWM") - start) / MB, len(changes), changes[-1].relative]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
def test_memory_is_bounded_by_the_largest_tensor_whatever_the_size_of_the_files(tmp_path):
    """Pages of a mapped file count too. Both pairs of files have as many tensors, which costs both the same."""
    torch.manual_seed(0)
    pattern = torch.randn(1 << 22).bfloat16() + 2
    grown, sizes, largest = [], [], []
    for dim in (256, 768):
        config = WanConfig(dim=dim, ffn_dim=4 * dim, num_heads=2, num_layers=20)
        weights = {name: pattern[: math.prod(shape)].reshape(shape) for name, shape in expected_shapes(config)}
        files = [tmp_path / f"{number}.safetensors" for number in (1, 2)]
        for number, file in enumerate(files, start=1):
            save_file({name: (value * number).clone() for name, value in weights.items()}, file)
        command = [sys.executable, "-c", MEASURE, DIT, *files]
        done = subprocess.run(command, cwd=PACK, capture_output=True, text=True, check=True)
        growth, count, relative = json.loads(done.stdout)
        assert count == len(weights) and relative == pytest.approx(1, rel=1e-2)
        grown.append(growth)
        sizes.append(sum(file.stat().st_size for file in files) / 2**20)
        largest.append(max(value.nbytes for value in weights.values()) / 2**20)
    assert sizes[1] - sizes[0] > 600
    assert grown[1] - grown[0] < 2 * (largest[1] - largest[0]) + 24


def test_command_writes_picture_and_table(tmp_path):
    main(["drift", "--out", str(tmp_path / "drift.png"), "--lora", f"{LORA}:1.0"])
    with (tmp_path / "drift.csv").open() as file:
        rows = {row["parameter"]: row for row in csv.DictReader(file)}
    expected = {change.name: change for change in lora_drift(DIT, load_lora(LORA), 1.0)}
    assert rows.keys() == expected.keys()
    row = rows["blocks.4.self_attn.q.weight"]
    assert (row["component"], row["block"]) == ("self-attention q", "4")
    assert float(row["relative"]) == pytest.approx(expected["blocks.4.self_attn.q.weight"].relative, rel=1e-6)
    assert Image.open(tmp_path / "drift.png").size[0] > 600


def test_command_refuses_a_lora_for_another_size(tmp_path):
    layer = LoraLayer(torch.zeros(2, 64), torch.zeros(64, 2))
    save_lora(Lora({"blocks.0.self_attn.q": layer}), tmp_path / "l.safetensors")
    with pytest.raises(SystemExit, match="another size"):
        main(["drift", "--out", str(tmp_path / "drift.png"), "--lora", str(tmp_path / "l.safetensors")])
