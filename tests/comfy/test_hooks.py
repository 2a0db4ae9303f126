"""Functions of ComfyUI's nodes and of other packs act on our network as on ComfyUI's own, hook by hook."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.comfy_scripts import run_script

ONLY_NEWER = ("double_block", "attn1_patch, attn2_patch", "optimized_attention_override")
"""Hooks that older versions of ComfyUI do not have, or do not tell where they are."""


@pytest.fixture(scope="module")
def hooks(comfyui: Path) -> dict[str, Any]:
    return json.loads(run_script(comfyui, "run_hooks.py"))


def test_every_hook_has_the_effect_that_it_has_on_the_native_network(hooks: dict[str, Any], comfyui: Path) -> None:
    measured = hooks["patterns"]
    assert len(measured) >= 13 - len(ONLY_NEWER)
    if (comfyui / "comfy" / "ldm" / "wan" / "uni3c.py").exists():
        assert measured.keys() >= {"Uni3C", "InfiniteTalk"}  # ComfyUI's own
    for name, result in measured.items():
        if name in ONLY_NEWER and not result["effect"]:
            continue
        assert result["effect"] > 1e-3, name  # or the agreement would prove nothing
        assert result["difference"] < 1e-5, name


def test_a_network_is_back_at_its_bits_without_its_patches(hooks: dict[str, Any]) -> None:
    assert hooks["again"]


def test_all_that_the_native_network_has_is_found_on_ours(hooks: dict[str, Any]) -> None:
    assert hooks["missing"] == []


def test_a_pass_with_one_timestep_is_refused_by_name(hooks: dict[str, Any]) -> None:
    message = hooks["refused"]
    assert "step_cache" in message
    assert "EasyCache" in message
    assert len(message) < 300  # no repr of a network


@pytest.fixture(scope="module")
def newer(comfyui: Path) -> dict[str, Any]:
    return json.loads(run_script(comfyui, "run_newer_core.py"))


def test_a_layers_own_attention_is_honoured_and_saved(newer: dict[str, Any]) -> None:
    assert newer["preferred"] == ["blocks.1.self_attn", "blocks.1.cross_attn"] * 2
    assert newer["same calls"]
    assert newer["difference"] < 1e-5
    assert newer["names"]
    assert newer["choices"] == 6


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("new_layer", "fps_embedding"),
        ("new_class", "WanGatedAttention"),
        ("new_feed_forward", "WanGatedFeedForward"),
        ("new_network", "it is a WanNetwork"),
    ],
)
def test_an_unknown_network_is_kept_and_said(newer: dict[str, Any], change: str, named: str) -> None:
    assert named in newer["kept"][change]
    assert "update ComfyUI-Pusa" in newer["kept"][change]
