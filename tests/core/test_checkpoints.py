"""Reading Wan checkpoints and refusing what is none."""

import pytest
import torch
from safetensors.torch import save_file

from pusa_core import load_checkpoint
from tests.conftest import GOLDENS


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model.", "model."])
def test_every_prefix_gives_the_original_names(golden, tmp_path, prefix):
    weights = golden("dit_tiny")
    save_file({f"{prefix}{name}": value for name, value in weights.items()}, tmp_path / "x.safetensors")
    loaded = load_checkpoint(tmp_path / "x.safetensors")
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_shards_are_joined(golden, tmp_path):
    items = sorted(golden("dit_tiny").items())
    save_file(dict(items[:40]), tmp_path / "1.safetensors")
    save_file(dict(items[40:]), tmp_path / "2.safetensors")
    assert len(load_checkpoint([tmp_path / "1.safetensors", tmp_path / "2.safetensors"])) == len(items)
    with pytest.raises(ValueError, match="again"):
        load_checkpoint([tmp_path / "1.safetensors", tmp_path / "1.safetensors"])


def test_pt_files_load_without_running_code(golden, tmp_path):
    torch.save(golden("dit_tiny"), tmp_path / "x.pt")
    assert "head.modulation" in load_checkpoint(tmp_path / "x.pt")

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"head.modulation": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil\.pt cannot be read"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_embedding.weight": torch.zeros(96, 36, 1, 2, 2)}, r"image-to-video model \(36"),
        ({"patch_embedding.weight": torch.zeros(96, 48, 1, 2, 2)}, "5B"),
        ({"vace_patch_embedding.weight": torch.zeros(1)}, "VACE"),
        ({"img_emb.proj.0.bias": torch.zeros(1)}, "image-to-video"),
        ({"control_adapter.conv.weight": torch.zeros(1), "img_emb.proj.0.bias": torch.zeros(1)}, "camera-control"),
        ({"casual_audio_encoder.encoder.final_linear.weight": torch.zeros(1)}, "speech-to-video"),
        ({"audio_proj.audio_proj_glob_1.layer.bias": torch.zeros(1)}, "HuMo"),
        ({"face_adapter.fuser_blocks.0.k_norm.weight": torch.zeros(1)}, "Animate"),
    ],
)
def test_other_wan_models_are_refused_by_name(golden, tmp_path, change, message):
    save_file(golden("dit_tiny") | change, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=message) as error:
        load_checkpoint(tmp_path / "x.safetensors")
    assert "text-to-video checkpoint" in str(error.value) and "x.safetensors" in str(error.value)


def test_another_architecture_is_refused(tmp_path):
    save_file({"unet.weight": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="not a Wan video model"):
        load_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize("damage", ["truncated", "not safetensors", "empty"])
def test_damaged_files_are_refused_by_name(tmp_path, damage):
    whole = (GOLDENS / "dit_tiny.safetensors").read_bytes()
    content = {"truncated": whole[:50_000], "not safetensors": b"<html>not found</html>", "empty": b""}[damage]
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.safetensors cannot be read"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
        load_checkpoint(tmp_path / "gone.safetensors")
