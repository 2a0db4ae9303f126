"""Pusa Extend Video in a real ComfyUI: a video of any length, kept scene by scene."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from demo.clips import draw_scene
from pusa_core.cli.main import main
from pusa_core.media.video import read_frames
from tests.conftest import GOLDENS
from tests.support.clips import sound_samples, write_clip
from tests.support.comfy_scripts import run_script
from tools.comfy_client import ComfyClient, Graph, PromptRefused, RunFailed

from ..support.graphs import node, picture

SIZE = 32
PROMPT = "a small red square moves slowly left"


def extend(seconds: float = 2.0, **changes: object) -> Graph:
    """A hop is 8 frames."""
    quick = {"width": SIZE, "height": SIZE, "length": 17, "steps": 2, "cfg": 1.0, "shift": 5.0, "seed": 5}
    made_of = {"model": ["demo_model", 0], "clip": ["demo", 0], "vae": ["demo", 1]}
    inputs = {"prompt": PROMPT, "negative": "", "seconds": seconds, **made_of, **quick, **changes}
    return {
        "demo_model": node("PusaLoad", model_name="pusa_demo_wan_t2v.safetensors", lora_name="none", lora_strength=1.0),
        "demo": node("PusaDemoLoader"),
        "picture": picture(0, SIZE, SIZE),
        "long": node("PusaExtendVideo", **inputs),
        "save": node("SaveVideo", video=["long", 0], filename_prefix="long", format="auto", codec="auto"),
        "frames": node("VAEDecode", samples=["long", 1], vae=["demo", 1]),
        "images": node("SaveImage", images=["frames", 0], filename_prefix="frame"),
    }


def saved_video(comfy: ComfyClient, outputs: dict, folder: Path) -> Path:
    (entry,) = outputs["save"]["images"]
    path = folder / "saved.mp4"
    path.write_bytes(comfy.file(entry))
    return path


def scenes_in(base: Path, name: str) -> dict[int, torch.Tensor]:
    folder = base / "output" / name
    listed = json.loads((folder / "scenes.json").read_text())["scenes"]
    return {each["number"]: load_file(folder / each["latents"])["latents"].clone() for each in listed}


def test_a_picture_becomes_a_video_whose_scenes_are_those_of_the_command(
    comfy: ComfyClient, server_base: Path, tmp_path: Path
) -> None:
    from PIL import Image

    first = (draw_scene(3).render([0])[0] * 255).round().astype(np.uint8)[16:48, 16:48]
    Image.fromarray(first).save(tmp_path / "first.png")
    graph = extend(image=["first", 0], scenes="test/picture", prompt=f"{PROMPT}\n1s: it turns round")
    graph["first"] = node("LoadImage", image=comfy.upload(tmp_path / "first.png"))
    graph["demo_model"]["inputs"]["lora_name"] = "pusa_demo_lora.safetensors"
    lora = {"lora_name": "pusa_demo_long_lora.safetensors", "strength_model": 1.0}
    graph["loras"] = node("LoraLoaderModelOnly", model=["demo_model", 0], **lora)
    graph["long"]["inputs"]["model"] = ["loras", 0]
    outputs = comfy.run(graph)

    frames = read_frames(saved_video(comfy, outputs, tmp_path))
    assert len(frames) == 32 and frames.shape[1:3] == (SIZE, SIZE)
    assert (frames[0] - torch.from_numpy(first) / 255).abs().mean() < 0.02  # the codec lies between
    decoded = torch.stack([torch.from_numpy(_picture(comfy.file(each))) for each in outputs["images"]["images"]])
    assert len(decoded) == 33  # whole latents
    assert (frames[1:] - decoded[1:32]).abs().mean() < 0.02  # decoded along as if at once; the codec lies between

    made = scenes_in(server_base, "test/picture")
    quick = ["--steps", "2", "--cfg", "1", "--frames", "17", "--size", f"{SIZE}x{SIZE}", "--seed", "5"]
    prompts = ["--prompt", PROMPT, "--prompt", "1s: it turns round", "--seconds", "2"]
    main(["extend", str(tmp_path / "first.png"), *quick, *prompts, "--out", str(tmp_path / "own.mp4")])
    listed = json.loads((tmp_path / "own.scenes" / "scenes.json").read_text())["scenes"]
    assert [each["number"] for each in listed] == list(made)
    for each in listed:
        own = load_file(tmp_path / "own.scenes" / each["latents"])["latents"]
        assert (made[each["number"]] - own).abs().max() < 2e-2 * own.abs().max()  # ComfyUI computes the VAE in its way


def _picture(data: bytes) -> np.ndarray:
    from io import BytesIO

    from PIL import Image

    return np.asarray(Image.open(BytesIO(data)).convert("RGB")).astype(np.float32) / 255


def test_a_run_goes_on_from_the_scenes_that_are_there(comfy: ComfyClient, server_base: Path) -> None:
    comfy.run(extend(scenes="test/straight"))
    comfy.run(extend(scenes="test/parts", until=1))
    first = scenes_in(server_base, "test/parts")
    assert list(first) == [1]
    (file,) = (server_base / "output" / "test/parts").glob("scene_0001_*.safetensors")
    written = file.stat().st_mtime_ns
    comfy.run(extend(scenes="test/parts"))
    straight, parts = scenes_in(server_base, "test/straight"), scenes_in(server_base, "test/parts")
    assert len(straight) == 3 and all(torch.equal(straight[number], parts[number]) for number in straight)
    assert file.stat().st_mtime_ns == written


def test_a_retake_makes_a_scene_anew_and_going_back_finds_the_first(comfy: ComfyClient, server_base: Path) -> None:
    comfy.run(extend(scenes="test/takes"))
    before = scenes_in(server_base, "test/takes")
    comfy.run(extend(scenes="test/takes", retakes="2: seed 77"))
    after = scenes_in(server_base, "test/takes")
    assert [number for number in before if not torch.equal(before[number], after[number])] == [2, 3]
    count = len(list((server_base / "output/test/takes").glob("scene_*.safetensors")))
    comfy.run(extend(scenes="test/takes"))
    assert len(list((server_base / "output/test/takes").glob("scene_*.safetensors"))) == count
    again = scenes_in(server_base, "test/takes")
    assert all(torch.equal(before[number], again[number]) for number in before)


def test_an_interrupted_run_keeps_its_scenes(comfy: ComfyClient, server_base: Path) -> None:
    graph = extend(scenes="test/interrupted", seconds=60.0)
    folder = server_base / "output/test/interrupted"
    running = comfy.queue(graph)
    while len(list(folder.glob("scene_*.safetensors"))) < 2:
        time.sleep(0.05)
    comfy.post("/interrupt", {})
    with pytest.raises(RunFailed, match="interrupted"):
        comfy.wait(running)
    kept = len(list(folder.glob("scene_*.safetensors")))
    assert 2 <= kept < 119
    comfy.run(extend(scenes="test/interrupted", seconds=60.0, until=2))
    assert len(list(folder.glob("scene_*.safetensors"))) == kept


def test_a_clip_of_another_rate_keeps_its_speed_and_its_sound(comfy: ComfyClient, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", frames=30, rate=30, seconds_of_sound=1.0)
    graph = extend(video=["clip", 0], scenes="test/clip")
    graph["clip"] = node("LoadVideo", file=comfy.upload(tmp_path / "clip.mp4"))
    path = saved_video(comfy, comfy.run(graph), tmp_path)
    assert len(read_frames(path)) == 32
    heard, own = sound_samples(path), sound_samples(tmp_path / "clip.mp4")
    assert heard.codec == "aac" and len(heard.samples) > 0.9 * len(own.samples) > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "rolling", "history": 2, "block": 1},
        {"history_guidance": 1.5, "history_levels": "0", "given_frames_refresh": 0},
        {"anchor": False, "match_colour": False, "cfg": 2.0},
        {"model_low": ["demo_model", 0], "switch": 0.9},
    ],
)
def test_every_recipe_runs(comfy: ComfyClient, changes: dict) -> None:
    video = comfy.latent(extend(scenes="test/recipes", **changes), "long", 1)
    assert video.shape == (1, 16, 9, 4, 4) and video.isfinite().all()
    plain = comfy.latent(extend(scenes="test/recipes"), "long", 1)
    assert not torch.equal(video[:, :, -1], plain[:, :, -1])


def test_a_latent_goes_on_without_being_encoded_again(comfy: ComfyClient) -> None:
    """As in ComfyUI's Start Loop and End Loop, whose copies of the node share a folder and hand on the LATENT."""
    graph = extend(scenes="test/on", seconds=1.0)
    graph["more"] = node("PusaExtendVideo", **{**graph["long"]["inputs"], "latent": ["long", 1], "seconds": 2.0})
    first, more = comfy.latent(graph, "long", 1), comfy.latent(graph, "more", 1)
    assert more.shape[2] > first.shape[2]
    assert (more[:, :, : first.shape[2]] - first).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seconds": 0.1, "image": ["picture", 0], "length": 5, "history": 9}, "no room for new ones"),
        ({"scenes": "../outside"}, "within the output folder"),
        ({"scenes": " "}, "within the output folder"),
        ({"until": 9}, "until names scene 9, but the video has the scenes 1 to 3"),
        ({"retakes": "9: seed 1"}, "retakes names scene 9"),
        ({"image": ["picture", 0], "latent": ["empty", 0]}, "image and latent are connected"),
        ({"mode": "rolling", "model_low": ["demo_model", 0]}, "needs one model"),
        ({"mode": "rolling", "history": 1, "length": 29}, "blocks of 4 do not divide"),
        ({"history_levels": "high"}, "is not LEVEL or OLDEST..NEWEST"),
        ({"vae": ["other", 0]}, "decoded by the Wan2.1 VAE alone"),
    ],
)
def test_bad_input_is_refused_with_the_fix(comfy: ComfyClient, changes: dict, message: str) -> None:
    graph = extend(**changes)
    graph["empty"] = node("EmptyHunyuanLatentVideo", width=SIZE, height=SIZE, length=9, batch_size=1)
    graph["other"] = node("VAELoader", vae_name="pixel_space")
    with pytest.raises((RunFailed, PromptRefused)) as caught:
        comfy.run(graph)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"prompt": "3s: later"}, "no prompt holds from the start"), ({"retakes": "three"}, "is no take of a scene")],
)
def test_texts_are_checked_before_the_run(comfy: ComfyClient, changes: dict, message: str) -> None:
    with pytest.raises(PromptRefused, match=message):
        comfy.run(extend(**changes))


def test_latents_decoded_part_by_part_are_those_decoded_at_once(comfyui: Path) -> None:
    result = json.loads(run_script(comfyui, "run_film_vae.py", GOLDENS / "vae_tiny.safetensors"))
    assert len(result["errors"]) == 4 and max(result["errors"]) < 1e-4 and result["range"] > 0.1, result
