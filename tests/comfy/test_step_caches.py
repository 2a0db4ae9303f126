"""ComfyUI's EasyCache and LazyCache skip steps where frames or areas are given, and keep what is given."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from pusa_core.weights.demo_files import DIT, LORA
from tools.comfy_client import ComfyClient, Graph

from ..support.graphs import keyframe, ksampler, native_loader, node, parts, sampler
from .test_lost_pictures import logged

STEPS, LENGTH, SIZE = 20, 33, 64
CFG = 1.0  # with two prompts in a batch, EasyCache of older versions mixes up what it knows of each
THRESHOLD = {"reuse_threshold": 0.1, "start_percent": 0.15, "end_percent": 0.95, "verbose": False}
GIVEN = {"first frame": "0:0, 1--1:1", "left half": "0--1:0", "right half": "0--1:0"}


def graph_of(given: str, native: bool) -> Graph:
    """A still clip of which only ``given`` is kept; the corner where a cache looks is in the left half."""
    x = SIZE // 2 if given == "left half" else 0
    graph = parts(DIT.name, LORA.name, 1.0) | {
        "picture": node("PusaDemoImage", seed=0),
        "clip": node("RepeatImageBatch", image=["picture", 0], amount=LENGTH),
        "whole": keyframe("clip", length=LENGTH),
        "black": node("SolidMask", value=0.0, width=SIZE, height=SIZE),
        "white": node("SolidMask", value=1.0, width=SIZE // 2, height=SIZE),
        "area": node("MaskComposite", destination=["black", 0], source=["white", 0], x=x, y=0, operation="add"),
        "shifted": node("ModelSamplingSD3", model=["model", 0], shift=5.0),
    }
    mask = {} if given == "first frame" else {"mask": ["area", 0]}
    graph["given"] = node("PusaFrameMask", latent=["whole", 0], noise_levels=GIVEN[given], **mask)
    if native:
        graph |= {"unet": native_loader(DIT.name), "patched": node("PusaPatchModel", model=["unet", 0])}
        graph["model"] = node("LoraLoaderModelOnly", model=["patched", 0], lora_name=LORA.name, strength_model=1.0)
    return graph


def sampling(model: str, native: bool) -> dict[str, Any]:
    if native:
        return ksampler(model, "given", steps=STEPS, cfg=CFG)
    return sampler("given", steps=STEPS, cfg=CFG, model=[model, 0])


@pytest.mark.parametrize(
    ("given", "native"), [("first frame", False), ("left half", False), ("left half", True), ("right half", False)]
)
def test_a_step_cache_skips_steps_and_keeps_what_is_given(
    comfy: ComfyClient, server_base: Path, given: str, native: bool
) -> None:
    graph = graph_of(given, native)
    plain, whole = comfy.latent(graph | {"video": sampling("shifted", native)}, "video"), comfy.latent(graph, "whole")
    kept = {"first frame": (..., slice(1), slice(None), slice(None)), "left half": (..., slice(4))}
    kept["right half"] = (..., slice(4, None))
    errors = {}
    for name in ("EasyCache", "LazyCache"):
        graph["cached"] = node(name, model=["shifted", 0], **THRESHOLD)
        with logged(server_base) as lines:
            video = comfy.latent(graph | {"video": sampling("cached", native)}, "video")
        skipped = [int(found[1]) for line in lines if (found := re.search(rf"{name} - skipped (\d+)/{STEPS}", line))]
        assert len(skipped) == 1 and skipped[0] >= 5
        assert torch.equal(video[kept[given]], whole[kept[given]])
        errors[name] = ((video - plain).abs().mean() / plain.std()).item()
    assert 0 < errors["LazyCache"] < 0.1
    assert 0 < errors["EasyCache"] < 4 * errors["LazyCache"], (
        errors
    )  # more than that where the clean estimate is spoilt
