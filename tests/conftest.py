"""Shared paths and loaders."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture(scope="session")
def golden():
    """Load a golden file by name: numbers of the public reference on tiny random weights."""
    return lambda name: load_file(GOLDENS / f"{name}.safetensors")


@pytest.fixture(scope="session")
def golden_info():
    return json.loads((GOLDENS / "goldens.json").read_text())


@pytest.fixture(scope="session")
def tiny_model(golden):
    """Build the tiny DiT of the goldens: ``tiny_model("dit_tiny")``; a fresh copy at each call."""
    from pusa_core import WanConfig, WanModel

    def build(name: str = "dit_tiny", **kwargs):
        weights = golden(name)
        model = WanModel(WanConfig.from_state_dict(weights, num_heads=4), **kwargs)
        model.load_state_dict(weights)
        return model

    return build


@pytest.fixture(scope="session")
def demo_model():
    """Build the embedded demo model's base; a fresh copy at each call."""
    from demo.paths import DIT
    from pusa_core import WanConfig, WanModel, load_checkpoint

    def build():
        weights = load_checkpoint(DIT)
        model = WanModel(WanConfig.from_state_dict(weights))
        model.load_state_dict(weights)
        return model.eval().requires_grad_(False)

    return build


def max_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()
