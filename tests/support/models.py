"""Small model files for the server under test."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from pusa_core import Lora, LoraLayer, WanConfig, WanModel, save_lora

CONFIG = WanConfig(dim=256, ffn_dim=512, num_heads=2, num_layers=2)
DIT, LORA = "test_wan.safetensors", "test_lora.safetensors"


def random_dit() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return WanModel(CONFIG).state_dict()


def random_lora(width: int = CONFIG.dim, names: str = "blocks.{}.self_attn.{}") -> Lora:
    generator = torch.Generator().manual_seed(1)
    layers = {
        names.format(block, part): LoraLayer(
            torch.randn(4, width, generator=generator) / width**0.5, torch.randn(width, 4, generator=generator) / 4
        )
        for block in range(CONFIG.num_layers)
        for part in "qkvo"
    }
    return Lora(layers)


def write_models(models: Path) -> None:
    """Good files and one bad file of each kind."""
    dit, lora = random_dit(), random_lora()
    dits, loras = models / "diffusion_models", models / "loras"
    save_file(dit, dits / DIT)
    save_file({f"diffusion_model.{name}": value for name, value in dit.items()}, dits / "test_prefixed.safetensors")
    save_lora(lora, loras / LORA)
    save_file({"conv.weight": torch.zeros(4, 4)}, dits / "bad_not_wan.safetensors")
    (dits / "bad_truncated.safetensors").write_bytes((dits / DIT).read_bytes()[:100_000])
    (dits / "bad_text.safetensors").write_text("this is not a safetensors file, it is a text")
    save_lora(random_lora(names="layers.{}.attention.{}"), loras / "bad_other_names.safetensors")
    save_lora(random_lora(width=384), loras / "bad_other_size.safetensors")
    save_file({"conv.weight": torch.zeros(4, 4)}, loras / "bad_no_lora.safetensors")


def write_latents(folder: Path) -> None:
    """Files for ComfyUI's Load Latent: a video with a NaN in it, and one for another model."""
    version = {"latent_format_version_0": torch.tensor([])}
    broken = torch.ones(1, 16, 3, 4, 4)
    broken[0, 3, 1, 2, 2] = torch.nan
    save_file({"latent_tensor": broken, **version}, folder / "nan.latent")
    save_file({"latent_tensor": torch.ones(1, 48, 3, 4, 4), **version}, folder / "wan22_5b.latent")
    save_file({"latent_tensor": torch.ones(1, 16, 3, 4, 5), **version}, folder / "odd.latent")
