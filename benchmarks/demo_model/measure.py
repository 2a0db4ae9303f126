"""Measures the demo model on held-out clips and writes ``RESULTS.md`` with its figures.

``python -m benchmarks.demo_model.measure`` takes about a quarter of an hour on two CPU cores and produces every number
in that file.
"""

import json
import logging
import math
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.demo_model.command import read_arguments
from benchmarks.demo_model.judge import Errors, compare, halo, look
from benchmarks.demo_model.report import BASE_VTA, FLOOR, METRICS, report
from demo.clips import RADII, Scene, draw_scene
from demo.training.machine import DEVICE
from demo.training.vae_pool import decode_clips, encode_clips
from pusa_core import Given, WanModel, euler_sample, flow_sigmas, load_model
from pusa_core.media.demo_text import encode_text
from pusa_core.media.video import to_uint8
from pusa_core.sampling.pipeline import Settings, generate_latents
from pusa_core.sampling.sampler import VelocityFn, guided_velocity

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
BATCH = 16
STEPS, CFG = 10, 3.0
STRENGTHS = (1.0, 1.4)


def load_demo(strength: float) -> WanModel:
    """Load the demo model with its LoRA at ``strength``."""
    return load_model("demo", [("demo", strength)] if strength else (), device=DEVICE, dtype=torch.float32)


def sample(
    model: WanModel,
    scenes: list[Scene],
    first: Tensor | None,
    *,
    noise_level: float = 0.0,
    steps: int = STEPS,
    seed: int = 0,
) -> Tensor:
    """Sample latents ``[N, 16, 21, 8, 8]`` for the captions, optionally with given ``first [N, 16, 1, 8, 8]``."""
    parts = []
    for start in range(0, len(scenes), BATCH):
        chosen = scenes[start : start + BATCH]
        given = Given.empty(torch.zeros(len(chosen), 16, 21, 8, 8), 21)
        if first is not None:
            given = given.place(first[start : start + BATCH], 0, noise_level)
        context = torch.cat([encode_text(scene.caption) for scene in chosen])
        settings = Settings(width=64, height=64, steps=steps, cfg=CFG, seed=seed + start)
        parts.append(generate_latents(model, given, context, encode_text(""), settings))
    return torch.cat(parts).cpu()


def _with_replaced_first(
    network: VelocityFn, clean: Tensor, noise: Tensor, latents: Tensor, timesteps: Tensor
) -> Tensor:
    sigma = timesteps[0] / 1000
    return network(torch.cat([(1 - sigma) * clean + sigma * noise, latents[:, :, 1:]], dim=2), timesteps)


def sample_by_replacement(
    model: WanModel, scenes: list[Scene], first: Tensor, *, steps: int = STEPS, seed: int = 0
) -> Tensor:
    """Image-to-video with a scalar timestep: before each step, frame 0 is replaced by the re-noised given frame."""
    parts = []
    sigmas = flow_sigmas(steps)
    for start in range(0, len(scenes), BATCH):
        chosen = scenes[start : start + BATCH]
        clean = first[start : start + BATCH]
        noise = torch.randn(len(chosen), 16, 21, 8, 8, generator=torch.Generator().manual_seed(seed + start))
        clean, noise = clean.to(DEVICE), noise.to(DEVICE)
        context = torch.cat([encode_text(scene.caption) for scene in chosen]).to(DEVICE)
        network = guided_velocity(model, context, encode_text("").to(DEVICE), CFG)
        velocity = partial(_with_replaced_first, network, clean, noise[:, :, :1])
        with torch.inference_mode():
            latents = euler_sample(velocity, noise, sigmas[:, None].expand(-1, 21))
        parts.append(torch.cat([clean, latents[:, :, 1:]], dim=2))
    return torch.cat(parts).cpu()


def decode(latents: Tensor) -> list[np.ndarray]:
    return list(decode_clips(latents).numpy())


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * math.log10(1 / float(((a - b) ** 2).mean()))


def text_scores(videos: list[np.ndarray], scenes: list[Scene]) -> dict[str, float]:
    """Fraction of clips whose colour, shape and direction match the caption."""
    seen = [look(video) for video in videos]
    return {
        name: float(np.mean([getattr(s, name) == getattr(scene, name) for s, scene in zip(seen, scenes, strict=True)]))
        for name in ("color", "shape", "direction")
    }


def image_scores(videos: list[np.ndarray], scenes: list[Scene]) -> dict[str, tuple[float, float]]:
    """Mean and standard error of each image-to-video error."""
    errors: list[Errors] = [compare(video, scene) for video, scene in zip(videos, scenes, strict=True)]
    columns = {name: np.array([getattr(error, name) for error in errors]) for name in METRICS}
    return {name: (float(c.mean()), float(c.std(ddof=1) / math.sqrt(len(c)))) for name, c in columns.items()}


def captioned_size_error(scenes: list[Scene]) -> float:
    """Mean relative area error of a guess from the caption alone: the mid-range of its radii."""
    guesses = [math.pi * float(np.mean(RADII[scene.size])) ** 2 for scene in scenes]
    return float(np.mean([abs(guess / scene.area - 1) for guess, scene in zip(guesses, scenes, strict=True)]))


def picture(rows: list[np.ndarray], path: Path, scale: int = 2) -> None:
    """Save clips as rows of eight evenly spaced frames."""
    times = np.linspace(0, 80, 8).round().astype(int)
    sheet = np.concatenate([np.concatenate([row[t] for t in times], axis=1) for row in rows])
    image = Image.fromarray(to_uint8(torch.from_numpy(sheet)))
    path.parent.mkdir(exist_ok=True)
    image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).save(path, optimize=True)


def title_picture(videos: list[np.ndarray], scenes: list[Scene], path: Path, cell: int = 128) -> None:
    """The README's figure: the given frame with a border, five generated frames, and the prompt above them."""
    times, gap, label = (0, 16, 32, 48, 64, 80), 6, 20
    sheet = Image.new("RGB", (len(times) * (cell + gap) + gap, len(videos) * (cell + label + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (video, scene) in enumerate(zip(videos, scenes, strict=True)):
        y = row * (cell + label + gap)
        draw.text((gap, y + 4), f'given frame, and "{scene.caption}"', fill="black")
        for column, t in enumerate(times):
            x = gap + column * (cell + gap)
            if column == 0:
                draw.rectangle((x - 3, y + label - 3, x + cell + 2, y + label + cell + 2), fill="black")
            frame = Image.fromarray(to_uint8(torch.from_numpy(video[t])))
            sheet.paste(frame.resize((cell, cell), Image.Resampling.BICUBIC), (x, y + label))
    sheet.save(path, optimize=True)


def measure(clips: int) -> dict:
    """Compute all results and save the figures."""
    scenes = [draw_scene(seed) for seed in range(clips)]
    truth = [scene.render() for scene in scenes]
    latents = encode_clips(scenes)
    reconstructed = decode(latents)
    results: dict = {"psnr": [psnr(a, b) for a, b in zip(reconstructed, truth, strict=True)]}
    results["halo"] = [halo(video, scene) for video, scene in zip(reconstructed, scenes, strict=True)]
    picture([row for pair in zip(truth[:4], reconstructed, strict=False) for row in pair], HERE / "pictures/vae.png")
    log.info("PSNR %.2f dB, halo %.4f", np.mean(results["psnr"]), np.mean(results["halo"]))

    first = encode_clips(scenes, range(1))
    results["text"], results["image"], shown = {}, {FLOOR: image_scores(reconstructed, scenes)}, {}
    for label, strength in {"base": 0.0, **{f"LoRA {s:g}": s for s in STRENGTHS}}.items():
        model = load_demo(strength)
        videos = decode(sample(model, scenes, None))
        results["text"][label] = text_scores(videos, scenes)
        shown[f"text_{label}"] = videos
        if not strength:
            videos = decode(sample_by_replacement(model, scenes, first))
            results["image"]["(a) base, scalar timestep"] = image_scores(videos, scenes)
            shown["a"] = videos
        name = BASE_VTA if not strength else f"(c) Pusa LoRA, strength {strength:g}"
        videos = decode(sample(model, scenes, first))
        results["image"][name] = image_scores(videos, scenes)
        shown[name] = videos
        log.info("%s: %s %s", label, results["text"][label], results["image"][name])
    picture([v for i in range(4) for v in (shown["text_base"][i],)], HERE / "pictures/text_to_video.png")
    best = next(key for key in shown if key.startswith("(c)"))
    rows = [clip for i in range(3) for clip in (truth[i], shown["a"][i], shown[BASE_VTA][i], shown[best][i])]
    picture(rows, HERE / "pictures/image_to_video.png")
    title_picture(shown[best][:3], scenes[:3], HERE / "pictures/readme.png")
    results["captioned_size"] = captioned_size_error(scenes)
    results["captions"] = [scene.caption for scene in scenes[:4]]
    return results


def main() -> None:
    args = read_arguments(__doc__, clips=64)
    started = time.monotonic()
    results = measure(args.clips)
    sampling = f"{STEPS} steps, cfg {CFG:g}, shift 5"
    (HERE / "RESULTS.md").write_text(report(results, args.clips, sampling, time.monotonic() - started))
    (HERE / "results.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
