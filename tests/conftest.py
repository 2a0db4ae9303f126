"""What the tests share: goldens, models, and one ComfyUI server."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from safetensors.torch import load_file

from tools.comfy_client import ComfyClient
from tools.comfyui import find_comfyui, make_base, running_server

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

GOLDENS = Path(__file__).parent / "goldens"
NOT_FOUND = "no ComfyUI found: set COMFYUI_PATH to a checkout to run the tests against it"


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
    """Load the embedded demo model's base; a fresh copy at each call."""
    from pusa_core import load_model

    return partial(load_model, "demo", device="cpu")


def max_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()


@pytest.fixture(scope="session")
def comfyui() -> Path:
    path = find_comfyui()
    if path is None:
        pytest.skip(NOT_FOUND)
    if not (path / "main.py").is_file():
        pytest.fail(f"COMFYUI_PATH is {path}, which holds no ComfyUI (no main.py)")
    return path


@pytest.fixture(scope="session")
def server_base(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.models import write_latents, write_models

    base = tmp_path_factory.mktemp("comfyui")
    make_base(base)
    write_models(base / "models")
    write_latents(base / "input")
    return base


@pytest.fixture(scope="session")
def server_url(comfyui: Path, server_base: Path) -> Iterator[str]:
    with running_server(comfyui, server_base) as url:
        yield url


@pytest.fixture(scope="session")
def comfy(server_url: str) -> ComfyClient:
    return ComfyClient(server_url)
