"""Measures a part of a clip made anew, on held-out clips, and writes ``REGIONS.md`` with its contact sheet.

``python -m benchmarks.demo_model.regions`` takes about ten minutes on two CPU cores. The upper half of every clip is
made anew; the lower half and the first frame are given. With the caption they determine it, so every result is compared
with the ground truth.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.demo_model.command import read_arguments
from benchmarks.demo_model.judge import LOST, look
from benchmarks.demo_model.measure import BATCH, CFG, STEPS, decode, load_demo, picture
from benchmarks.demo_model.tasks import FIRST_SCENE
from demo.clips import SIZE, Scene, draw_scene
from demo.training.machine import DEVICE, machine
from demo.training.vae_pool import encode_clips
from pusa_core import Given, WanModel, euler_sample, flow_sigmas, generate_latents, guided_velocity, sigma_table
from pusa_core.media.demo_text import encode_text
from pusa_core.sampling.pipeline import Settings
from pusa_core.sampling.sampler import VelocityFn, per_frame
from pusa_core.weights.demo_files import LORA_STRENGTH as DEMO_LORA_STRENGTH

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
EDGE = SIZE // 2  # the first row of pixels that is given
BAND = 4  # rows on each side of the edge
SHOWN = 3
FLOOR = "the truth through the VAE"
RENOISED, TOKENS = "scalar timestep, given part re-noised at every step", "a level per token"
MODELS = {"base": 0.0, "LoRA": DEMO_LORA_STRENGTH}


def region() -> Tensor:
    """Noise levels ``[21, 4, 4]``: the upper half of all frames but the first is made."""
    levels = torch.zeros(21, 4, 4)
    levels[1:, :2] = 1.0
    return levels


def by_tokens(model: WanModel, clean: Tensor, context: Tensor, seed: int) -> Tensor:
    settings = Settings(width=SIZE, height=SIZE, steps=STEPS, cfg=CFG, seed=seed)
    return generate_latents(model, Given(clean, region()), context, encode_text(""), settings)


def by_renoising(model: WanModel, clean: Tensor, context: Tensor, seed: int) -> Tensor:
    """All at one timestep; before each step the given part is replaced by the truth, noised to it."""
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    clean = clean.to(DEVICE)
    network = guided_velocity(model, context.to(DEVICE), encode_text("").to(DEVICE), CFG)
    made = per_frame(region(), clean).bool()

    def velocity(network: VelocityFn, latents: Tensor, timesteps: Tensor) -> Tensor:
        sigma = timesteps[0] / 1000
        return network(torch.where(made, latents, (1 - sigma) * clean + sigma * noise), timesteps)

    with torch.inference_mode():
        latents = euler_sample(partial(velocity, network), noise, sigma_table(flow_sigmas(STEPS), torch.ones(21)))
    return torch.where(made, latents, clean)


def sample(method: Callable[..., Tensor], model: WanModel, scenes: list[Scene], clean: Tensor) -> list[np.ndarray]:
    parts = []
    for start in range(0, len(scenes), BATCH):
        chosen = slice(start, start + BATCH)
        context = torch.cat([encode_text(scene.caption) for scene in scenes[chosen]])
        parts.append(method(model, clean[chosen], context, start).cpu())
    return decode(torch.cat(parts))


def errors(video: np.ndarray, truth: np.ndarray) -> tuple[float, float, float, float]:
    """Of all frames but the first: error in the made half, next to its edge, across the edge, and of the object.

    The first three are mean absolute errors (0..1); *across* is that of the difference between the two rows at the
    edge, which a visible seam makes large. The last is the distance between the objects of both clips in pixels, in
    frames whose object is wholly or partly in the made half.
    """
    error = np.abs(video - truth)[1:]
    steps = [clip[1:, EDGE] - clip[1:, EDGE - 1] for clip in (video, truth)]
    seen, wanted = look(video), look(truth)
    inside = wanted.masks[1:, :EDGE].any(axis=(1, 2))
    distance = np.linalg.norm(seen.centers - wanted.centers, axis=1)[1:][inside]
    return (
        float(error[:, :EDGE].mean()),
        float(error[:, EDGE - BAND : EDGE].mean()),
        float(np.abs(steps[0] - steps[1]).mean()),
        float(np.nan_to_num(distance, nan=LOST).mean()) if inside.any() else float("nan"),
    )


def measure(clips: int) -> tuple[dict[tuple[str, str], np.ndarray], list[np.ndarray]]:
    """Errors ``[clips, 4]`` by method and model, and the clips of the figure."""
    scenes = [draw_scene(FIRST_SCENE + index) for index in range(clips)]
    truth, clean = [scene.render() for scene in scenes], encode_clips(scenes)
    videos = {(FLOOR, "-"): decode(clean)}
    for label, strength in MODELS.items():
        model = load_demo(strength)
        for name, method in ((RENOISED, by_renoising), (TOKENS, by_tokens)):
            videos[name, label] = sample(method, model, scenes, clean)
            log.info("%s, %s", name, label)
    results = {
        key: np.array([errors(video, scene) for video, scene in zip(made, truth, strict=True)])
        for key, made in videos.items()
    }
    rows = [(RENOISED, "LoRA"), (TOKENS, "base"), (TOKENS, "LoRA")]
    shown = [clip for index in range(SHOWN) for clip in (truth[index], *(videos[key][index] for key in rows))]
    return results, shown


def report(results: dict[tuple[str, str], np.ndarray], clips: int, seconds: float) -> str:
    def cell(values: np.ndarray) -> str:
        values = values[~np.isnan(values)]
        return f"{values.mean():.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"

    return "\n".join(
        [
            "# A part of a clip made anew, measured",
            "",
            f"Written by `python -m benchmarks.demo_model.regions --clips {clips}` in {seconds / 60:.0f} minutes "
            f"({machine()}); {clips} held-out clips (scene seeds from {FIRST_SCENE}), {STEPS} steps, cfg {CFG:g}, "
            "shift 5. The upper half is made anew; the lower half and the first frame are given.",
            "",
            "Errors of all frames but the first with respect to the ground truth, mean and standard error over the "
            f"clips: mean absolute error (0..1) of the made half, of its {BAND} rows next to the given half, and of "
            "the difference between the two rows at the edge, where a seam would show; distance of the object in "
            f"pixels of {SIZE}, in frames in which it reaches the made half.",
            "",
            "| method | model | made half | next to the edge | across the edge | object |",
            "|---|---|---|---|---|---|",
            *(
                f"| {name} | {label} | " + " | ".join(cell(column) for column in values.T) + " |"
                for (name, label), values in results.items()
            ),
            "",
            "![three clips](pictures/regions.png)",
            "",
            f"Three clips, four rows each: ground truth; {RENOISED} (LoRA); {TOKENS}, base; the same with the LoRA.",
            "",
        ]
    )


def main() -> None:
    args = read_arguments(__doc__, clips=32)
    started = time.monotonic()
    results, shown = measure(args.clips)
    picture(shown, HERE / "pictures" / "regions.png")
    (HERE / "REGIONS.md").write_text(report(results, args.clips, time.monotonic() - started))


if __name__ == "__main__":
    main()
