"""Attention maps and parameter drift as nodes."""

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from pusa_core.analysis import AttentionMaps, AttentionRecorder, RecordedModel, lora_drift
from pusa_core.media.demo_text import encode_text
from tools.comfy_client import ComfyClient, Graph, PromptRefused, RunFailed

from ..support.graphs import CHANGES, CONTEXT_WINDOWS, NATIVE, image_to_video, node, sampler
from ..support.models import DIT, LORA, random_lora
from .test_parity import PROMPT, sample_with_core

STEPS = 4


def attention_map(**changes: object) -> Graph:
    """An image-to-video graph with the node in the sampler's place."""
    graph = image_to_video("0:0.3")
    own = {"record_steps": "0,-1", "blocks": "0,1", "filename_prefix": "maps"}
    inputs = {**sampler("mask", seed=11, steps=STEPS)["inputs"], **own, **changes}
    return {**graph, "video": node("PusaAttentionMap", **inputs)}


def maps_of(comfy: ComfyClient, base: Path, graph: Graph) -> np.ndarray:
    before = set((base / "output").glob("maps_*.npz"))
    comfy.run(graph)
    (path,) = set((base / "output").glob("maps_*.npz")) - before
    return np.load(path)["maps"]


@pytest.fixture(scope="module")
def expected(comfy: ComfyClient) -> AttentionMaps:
    """The maps from ``pusa_core`` alone."""
    recorder = AttentionRecorder([0, -1], [0, 1], total_steps=STEPS, total_blocks=2)
    given = comfy.latent(image_to_video("0:0.3"), "start")
    sample_with_core(
        given,
        "0:0.3",
        lora_strength=0.0,
        cfg=3.0,
        seed=11,
        steps=STEPS,
        wrap=lambda model: RecordedModel(model, recorder, encode_text(PROMPT)),
        callback=recorder.after_step,
    )
    return recorder.result()


MODELS = ["pusa", "native", "pusa with a patch of a block", "native with a patch of a block", "compiled pusa"]


@pytest.mark.parametrize("model", MODELS)
def test_maps_are_those_of_pusa_core(
    comfy: ComfyClient, server_base: Path, expected: AttentionMaps, model: str
) -> None:
    graph = attention_map()
    if model.startswith("native"):
        graph["model"] = NATIVE
    if model.endswith("block"):  # skips block 0 for the negative prompt alone, in the node's own patch
        graph["changed"] = CHANGES["skipped layers, negative only"]
        graph["video"]["inputs"]["model"] = ["changed", 0]
    if model.startswith("compiled"):
        if shutil.which("g++") is None:
            pytest.skip("torch.compile needs a C++ compiler")
        graph["changed"] = node("TorchCompileModel", model=["model", 0], backend="inductor")
        graph["video"]["inputs"]["model"] = ["changed", 0]
    maps = maps_of(comfy, server_base, graph)
    assert np.abs(maps.sum(-1) - 1).max() < 1e-5
    if model.endswith("block"):  # another velocity, hence other latents after the first step
        maps, reference = maps[:1], expected.maps[:1]
    else:
        reference = expected.maps
    assert np.abs(maps - reference.numpy()).max() < 1e-5
    assert np.abs(maps - 1 / 3).max() > 1e-3  # attention that is spread evenly would agree with anything


def test_the_video_is_the_samplers(comfy: ComfyClient) -> None:
    graph = attention_map()
    graph["plain"] = sampler("mask", seed=11, steps=STEPS)
    assert (comfy.latent(graph, "video", 1) == comfy.latent(graph, "plain")).all()


def test_numbers_and_picture(comfy: ComfyClient, server_base: Path) -> None:
    outputs = comfy.run(attention_map(filename_prefix="numbers"))
    (picture,) = outputs["video"]["images"]
    assert comfy.file(picture).startswith(b"\x89PNG")
    (table,) = (server_base / "output").glob("numbers_*.csv")
    assert len(list(csv.DictReader(io.StringIO(table.read_text())))) == 2 * 2 * 3 * 3


def test_steps_that_are_no_numbers_are_refused_before_the_queue_and_nothing_else_is_marked(comfy: ComfyClient) -> None:
    with pytest.raises(PromptRefused) as refused:
        comfy.run(attention_map(record_steps="first"))
    message = 'record_steps - "first" is not a list of numbers; write for example "0,3,-1"'
    assert {line.rpartition("node: ")[2] for line in str(refused.value).splitlines()} == {message}
    comfy.run(attention_map(record_steps="0,3,-1"))  # as the message says


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (attention_map(blocks="last"), 'blocks: "last" is not a list of numbers; write for example "0,3,-1"'),
        (attention_map(record_steps="4"), "step 4 does not exist; there are 4"),
        (attention_map(blocks="2"), "block 2 does not exist"),
        (attention_map(model=["windows", 0]) | {"windows": CONTEXT_WINDOWS}, "context windows"),
        (attention_map(filename_prefix="../../outside"), "outside"),
    ],
)
def test_refused(comfy: ComfyClient, graph: Graph, message: str) -> None:
    if "windows" in graph:
        graph["start"]["inputs"]["length"] = 33
    with pytest.raises(RunFailed, match=message):
        comfy.run(graph)


def drift(**changes: object) -> Graph:
    inputs = {"model_name": DIT, "lora_name": LORA, "lora_strength": 0.7, "other_model_name": "none"}
    return {"drift": node("PusaParameterDrift", **{**inputs, "filename_prefix": "drift", **changes})}


def test_drift_of_a_lora(comfy: ComfyClient, server_base: Path) -> None:
    comfy.run(drift())
    (table,) = (server_base / "output").glob("drift_*.csv")
    rows = {row["parameter"]: float(row["relative"]) for row in csv.DictReader(table.open())}
    changes = lora_drift(server_base / "models" / "diffusion_models" / DIT, random_lora(), 0.7)
    assert rows == pytest.approx({change.name: change.relative for change in changes}, rel=1e-5)


def test_drift_to_another_checkpoint(comfy: ComfyClient) -> None:
    outputs = comfy.run(drift(lora_name="none", other_model_name="test_prefixed.safetensors"))
    assert len(outputs["drift"]["images"]) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_name": "none"}, "choose one of the two"),
        ({"other_model_name": DIT}, "choose one of the two"),
        ({"lora_name": "bad_other_size.safetensors"}, "made for a model of another size"),
        ({"lora_name": "none", "other_model_name": "pusa_demo_wan_t2v.safetensors"}, "one size"),
    ],
)
def test_drift_refused(comfy: ComfyClient, changes: dict, message: str) -> None:
    with pytest.raises(RunFailed, match=message):
        comfy.run(drift(**changes))
