"""ComfyUI's own samplers run what Pusa Sampler runs, with a MODEL of Pusa Load or of Pusa Patch Model."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.comfy_scripts import run_script
from tools.comfy_client import ComfyClient, Graph, RunFailed

from ..support.graphs import CHANGES, NATIVE, SIZE, keyframe, ksampler, node, parts, sampler

LINKS = {"positive": ["positive", 0], "negative": ["negative", 0], "latent_image": ["given", 0]}
LEVELS = "0:0, -1:0.3"
STEPS = 4


MODELS = ["native, patched", "pusa", "pusa, patched"]


def start(levels: str = LEVELS, length: int = 17, model: str = "native, patched", change: dict | None = None) -> Graph:
    """A start and an end picture, and one of ``MODELS`` as ``reading``, with the shift of Pusa Sampler."""
    graph = parts() | ({"model": NATIVE} if model.startswith("native") else {})
    graph |= {"first": keyframe(length=length), "both": keyframe("other_picture", -1, latent=["first", 0])}
    graph["given"] = node("PusaFrameMask", latent=["both", 0], noise_levels=levels)
    graph["shifted"] = node("ModelSamplingSD3", model=["changed" if change else "model", 0], shift=5.0)
    patch = node("PusaPatchModel", model=["shifted", 0])
    graph["reading"] = patch if model.endswith("patched") else graph["shifted"]
    return graph | ({"changed": change} if change else {})


def core(**changes: Any) -> dict[str, Any]:
    return ksampler("reading", "given", steps=STEPS, **changes)


def advanced(first: int, last: int, leftover: bool, **changes: Any) -> dict[str, Any]:
    settings = {"noise_seed": 7, "steps": STEPS, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple"}
    stage = {"start_at_step": first, "end_at_step": last, "add_noise": "enable" if first == 0 else "disable"}
    stage["return_with_leftover_noise"] = "enable" if leftover else "disable"
    return node("KSamplerAdvanced", model=["reading", 0], **{**LINKS, **settings, **stage, **changes})


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_ksampler_gives_what_pusa_sampler_gives(comfy: ComfyClient, model: str, cfg: float) -> None:
    graph = start(model=model) | {"core": core(cfg=cfg), "ours": sampler("given", steps=STEPS, cfg=cfg)}
    video, given = comfy.latent(graph, "core"), comfy.latent(graph, "both")
    assert (video - comfy.latent(graph, "ours")).abs().max() < 1e-3
    assert torch.equal(video[:, :, 0], given[:, :, 0])
    assert not torch.equal(video[:, :, -1], given[:, :, -1])


def test_text_to_video_is_untouched(comfy: ComfyClient) -> None:
    graph = start()
    patched = graph | {"core": core(latent_image=["empty", 0], sampler_name="euler_ancestral")}
    plain = graph | {"core": core(latent_image=["empty", 0], sampler_name="euler_ancestral", model=["shifted", 0])}
    assert torch.equal(comfy.latent(patched, "core"), comfy.latent(plain, "core"))


def test_patching_a_model_that_reads_levels_changes_no_bit(comfy: ComfyClient) -> None:
    videos = [comfy.latent(start(model=model) | {"core": core()}, "core") for model in ("pusa", "pusa, patched")]
    assert torch.equal(*videos)


@pytest.mark.parametrize("model", MODELS)
def test_two_stages_give_what_one_gives(comfy: ComfyClient, model: str) -> None:
    graph = start(model=model) | {"core": core(), "high": advanced(0, 2, leftover=True)}
    graph["low"] = advanced(2, STEPS, leftover=False, latent_image=["high", 0])
    video = comfy.latent(graph, "low")
    assert (video - comfy.latent(graph, "core")).abs().max() < 1e-4
    assert torch.equal(video[:, :, 0], comfy.latent(graph, "both")[:, :, 0])


def test_a_second_stage_that_adds_noise_again_leaves_given_frames_alone(comfy: ComfyClient) -> None:
    graph = start() | {"high": advanced(0, 2, leftover=True)}
    graph["low"] = advanced(2, STEPS, leftover=False, latent_image=["high", 0], add_noise="enable")
    given = comfy.latent(graph, "both")
    for stage in ("high", "low"):
        assert torch.equal(comfy.latent(graph, stage)[:, :, 0], given[:, :, 0])
    noised = comfy.latent(graph, "low")[:, :, -1]  # at level 0.3
    assert noised.abs().max() < 3 * given[:, :, -1].abs().max().clamp(min=1.0)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["euler", "dpmpp_2m"])
def test_custom_sampler_gives_what_ksampler_gives(comfy: ComfyClient, name: str, model: str) -> None:
    graph = start(model=model) | {"core": core(sampler_name=name)}
    prompts = {key: LINKS[key] for key in ("positive", "negative")}
    graph |= {
        "noise": node("RandomNoise", noise_seed=7),
        "guider": node("CFGGuider", model=["reading", 0], cfg=3.0, **prompts),
        "sampler": node("KSamplerSelect", sampler_name=name),
        "sigmas": node("BasicScheduler", model=["reading", 0], scheduler="simple", steps=STEPS, denoise=1.0),
    }
    links = {key: [key, 0] for key in ("noise", "guider", "sampler", "sigmas")}
    graph["custom"] = node("SamplerCustomAdvanced", latent_image=["given", 0], **links)
    assert torch.equal(comfy.latent(graph, "custom"), comfy.latent(graph, "core"))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("change", ["context windows", "step cache", "skipped layers", "second LoRA"])
def test_what_core_nodes_change_is_kept(comfy: ComfyClient, change: str, model: str) -> None:
    """Context windows with FreeNoise, skipped steps, a guidance of its own and a stack of LoRAs."""
    graph = start(length=33, model=model, change=CHANGES[change])
    graph |= {"core": core(), "ours": sampler("given", steps=STEPS, model=["changed", 0])}
    video, given = comfy.latent(graph, "core"), comfy.latent(graph, "both")
    assert (video - comfy.latent(graph, "ours")).abs().max() < 1e-3
    assert torch.equal(video[:, :, 0], given[:, :, 0])


def test_a_batch_shares_the_given_frames(comfy: ComfyClient) -> None:
    graph = start() | {"twice": node("RepeatLatentBatch", samples=["given", 0], amount=2)}
    video = comfy.latent(graph | {"core": core(latent_image=["twice", 0])}, "core")
    assert torch.equal(video[0, :, 0], video[1, :, 0])
    assert not torch.equal(video[0, :, 1], video[1, :, 1])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler_name": "euler_ancestral"}, "sampler euler_ancestral adds fresh noise to all frames"),
        ({"sampler_name": "lcm"}, "sampler lcm adds fresh noise to all frames"),
        ({"sampler_name": "uni_pc"}, "sampler unipc is not known to follow"),
        ({"latent_image": ["masked", 0]}, "no picture there"),
    ],
)
def test_refused_before_the_first_step(comfy: ComfyClient, changes: dict[str, Any], message: str, model: str) -> None:
    graph = start(model=model) | {"masked": node("PusaFrameMask", latent=["empty", 0], noise_levels="1:0.3")}
    with pytest.raises(RunFailed, match=re.escape(message)):
        comfy.latent(graph | {"core": core(**changes)}, "core")


def test_every_sampler_that_a_refusal_names_works(comfy: ComfyClient) -> None:
    graph = start(model="pusa")
    with pytest.raises(RunFailed) as refused:
        comfy.latent(graph | {"core": core(sampler_name="lcm")}, "core")
    found = re.search(r"choose one of ([\w, ]+)", str(refused.value))
    assert found
    names = found[1].split(", ")
    given = comfy.latent(graph, "both")
    for name in names:
        video = comfy.latent(graph | {"core": core(sampler_name=name)}, "core")
        assert torch.equal(video[:, :, 0], given[:, :, 0]), name
    assert len(names) == 10


def test_a_node_that_changes_the_mask_from_step_to_step_is_refused_and_removing_it_helps(comfy: ComfyClient) -> None:
    graph = start(model="pusa") | {"differential": node("DifferentialDiffusion", model=["reading", 0])}
    with pytest.raises(RunFailed, match=r"as Differential Diffusion does, .* remove that node"):
        comfy.latent(graph | {"core": core(model=["differential", 0])}, "core")
    comfy.latent(graph | {"core": core()}, "core")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_sees_that_the_levels_have_changed(comfy: ComfyClient) -> None:
    """ComfyUI's node leaves transformer_options, where timesteps come from, out of what guards compiled code."""
    graph = start(model="pusa") | {"other": node("PusaFrameMask", latent=["both", 0], noise_levels="0:0.5, -1:0")}
    graph["none"] = node("EmptyHunyuanLatentVideo", width=SIZE, height=SIZE, length=17, batch_size=1)
    graph["compiled"] = node("TorchCompileModel", model=["reading", 0], backend="inductor")
    for latent in ("none", "given", "other"):
        videos = []
        for model in ("reading", "compiled"):
            sampled = core(model=[model, 0], latent_image=[latent, 0])
            videos.append(comfy.latent(graph | {"core": sampled}, "core"))
        assert (videos[0] - videos[1]).abs().max() < 1e-3


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("length", [13, 33])
def test_a_mask_of_another_length_is_refused_by_name(comfy: ComfyClient, length: int, model: str) -> None:
    """ComfyUI itself would interpolate it, and drop the picture or change its level."""
    frames = (length - 1) // 4 + 1
    graph = start(length=length, model=model)
    graph["cut"] = node("TrimVideoLatent", samples=["first", 0], trim_amount=frames - 3)
    message = f"latent_image has a noise_mask of shape [1, 1, {frames}, 1, 1], which is not one noise level for each"
    with pytest.raises(RunFailed, match=re.escape(message) + ".*such as TrimVideoLatent.*Frame Conditioning Mask"):
        comfy.latent(graph | {"core": core(latent_image=["cut", 0])}, "core")


@pytest.fixture(scope="module")
def report(comfyui: Path) -> dict[str, Any]:
    """What ``run_samplers.py`` measures."""
    return json.loads(run_script(comfyui, "run_samplers.py"))


@pytest.mark.parametrize("kind", ["allowed", "tokens"])
def test_allowed_samplers_follow_every_frame_and_token(report: dict[str, Any], kind: str) -> None:
    assert len(report[kind]) == 11
    for name, measured in report[kind].items():
        coarse, fine = measured["error"]
        assert measured["alone"] < 1e-6, name
        assert fine < 0.6 * coarse, name  # converges on the exact solution, first order at least


def test_samplers_with_noise_are_refused_by_name_and_reason(report: dict[str, Any]) -> None:
    noisy = [name for name in report["refused"] if "ancestral" in name or "sde" in name] + ["lcm", "ddpm"]
    assert len(noisy) > 10
    for name in noisy:
        assert f"sampler {name} adds fresh noise" in report["refused"][name]


@pytest.mark.parametrize("option", ["s_churn", "eta"])
def test_an_option_that_adds_noise_is_refused_by_name(report: dict[str, Any], option: str) -> None:
    assert report["with option"][f"{option} 0.0"] == "allowed"
    assert f"sampler euler with {option} above 0 adds fresh noise" in report["with option"][f"{option} 0.5"]
