"""Tensor names of the Wan2.1 VAE file and their diffusers equivalents."""

from collections.abc import Iterable

from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers


def wan_vae_names() -> list[str]:
    """All tensor names of a Wan2.1 VAE file (two residual blocks per level, three level changes)."""

    def residual(prefix: str, shortcut: bool = False) -> list[str]:
        parts = ["residual.0.gamma", "residual.2.weight", "residual.2.bias"]
        parts += ["residual.3.gamma", "residual.6.weight", "residual.6.bias"]
        parts += ["shortcut.weight", "shortcut.bias"] if shortcut else []
        return [f"{prefix}.{part}" for part in parts]

    def resample(prefix: str, temporal: bool) -> list[str]:
        layers = ["resample.1"] + (["time_conv"] if temporal else [])
        return [f"{prefix}.{layer}.{part}" for layer in layers for part in ("weight", "bias")]

    names = [f"{layer}.{part}" for layer in ("conv1", "conv2") for part in ("weight", "bias")]
    for half in ("encoder", "decoder"):
        names += [f"{half}.{layer}.{part}" for layer in ("conv1", "head.2") for part in ("weight", "bias")]
        names += [f"{half}.head.0.gamma", f"{half}.middle.1.norm.gamma"]
        names += [f"{half}.middle.1.{layer}.{part}" for layer in ("to_qkv", "proj") for part in ("weight", "bias")]
        names += residual(f"{half}.middle.0") + residual(f"{half}.middle.2")
    # widths 1, 2, 4, 4 down and 4, 4, 2, 1 up: a shortcut where the width changes inside a block
    for index in range(11):
        prefix = f"encoder.downsamples.{index}"
        names += resample(prefix, index != 2) if index in (2, 5, 8) else residual(prefix, index in (3, 6))
    for index in range(15):
        prefix = f"decoder.upsamples.{index}"
        names += resample(prefix, index != 11) if index in (3, 7, 11) else residual(prefix, index == 4)
    return names


def diffusers_to_wan(diffusers_names: Iterable[str]) -> dict[str, str]:
    """Map diffusers names of the VAE to those of a Wan2.1 file, by inverting diffusers' own conversion."""
    to_wan = convert_wan_vae_to_diffusers({name: name for name in wan_vae_names()})
    missing = set(diffusers_names) - set(to_wan)
    if missing:
        raise ValueError(f"no Wan2.1 name for the VAE tensors {sorted(missing)}; is this a Wan2.1 VAE?")
    return to_wan
