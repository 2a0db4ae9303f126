"""Measures how to encode a keyframe at the end of a video, and writes ``LEAD_IN.md``.

``python -m benchmarks.demo_model.lead_in`` takes about three minutes on two CPU cores. The ground truth is the latents
of the whole clip, which are not available to a user who has only its two ends.
"""

import logging
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.demo_model.command import read_arguments
from demo.clips import FRAMES, draw_scene
from demo.training.machine import machine
from pusa_core.media.vae import WanVae
from pusa_core.sampling.keyframes import LEAD_IN_FRAMES, lead_in
from pusa_core.weights.demo_files import VAE

log = logging.getLogger(__name__)

LENGTHS = (1, 4, 12)  # pixel frames given at the end: one, one latent frame, three latent frames
LEAD_INS = (1, 5, 9, 13, 17)
REPORT = Path(__file__).with_name("LEAD_IN.md")


def encodings(vae: WanVae, video: Tensor, length: int) -> dict[str, Tensor]:
    """Latents ``[1, 16, T, h, w]`` of the last ``length`` frames of ``video [81, H, W, 3]``, by encoding method."""
    clip, latents = video[-length:], -(-length // 4)
    ways = {"last frame alone": vae.encode(clip[-1:])}
    if length > 1:
        ways["clip alone"] = vae.encode(clip[: length - 3])  # 4 n frames; the VAE takes 4 n - 3 of them
    for frames in LEAD_INS:
        padded, drop = lead_in(clip, 1, frames)
        ways[f"first frame repeated, {frames}"] = vae.encode(padded)[:, :, drop:]
    if length % 4 == 0:
        for frames in LEAD_INS:
            ways[f"preceding frames, {frames}"] = vae.encode(video[-length - frames :])[:, :, -latents:]
    return ways


def measure(clips: int) -> dict[int, dict[str, list[float]]]:
    """RMSE of each clip in normalised latents, by length and encoding method."""
    vae = WanVae(VAE)
    errors: dict[int, dict[str, list[float]]] = {length: {} for length in LENGTHS}
    for seed in range(clips):
        video = torch.from_numpy(draw_scene(seed).render())
        whole = vae.encode(video)
        for length in LENGTHS:
            for way, latents in encodings(vae, video, length).items():
                truth = whole[:, :, -latents.shape[2] :]
                errors[length].setdefault(way, []).append((latents - truth).square().mean().sqrt().item())
        log.info("clip %d of %d", seed + 1, clips)
    return errors


def table(errors: dict[int, dict[str, list[float]]]) -> list[str]:
    ways = list(dict.fromkeys(way for column in errors.values() for way in column))
    header = [f"{length} frame{'s' if length > 1 else ''}" for length in LENGTHS]
    lines = [f"| encoding | {' | '.join(header)} |", "|---" * (len(header) + 1) + "|"]
    for way in ways:
        cells = []
        for length in LENGTHS:
            values = torch.tensor(errors[length].get(way, []))
            cells.append(f"{values.mean():.4f} ± {values.std() / len(values) ** 0.5:.4f}" if len(values) > 1 else "")
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return lines


def report(errors: dict[int, dict[str, list[float]]], clips: int, seconds: float) -> str:
    totals = {n: sum(sum(column[f"first frame repeated, {n}"]) for column in errors.values()) / clips for n in LEAD_INS}
    sums = ", ".join(f"{total:.4f} with {frames}" for frames, total in totals.items())
    shortest = min(n for n, total in totals.items() if total < 1.01 * min(totals.values()))
    if shortest != LEAD_IN_FRAMES:
        log.warning("LEAD_IN_FRAMES is %d, which is not the shortest within one percent: %s", LEAD_IN_FRAMES, sums)
    return "\n".join(
        [
            "# Encoding keyframes at the end of a video",
            "",
            f"Written by `python -m benchmarks.demo_model.lead_in --clips {clips}` in {seconds / 60:.0f} minutes "
            f"({machine()}); the demo VAE, {clips} held-out clips of {FRAMES} "
            f"frames (scene seeds 0 to {clips - 1}).",
            "",
            "RMSE of the end's latents with respect to those of the whole clip, in units of the normalised latents "
            "(standard deviation 1); mean and standard error over the clips. Columns: number of pixel frames given at "
            "the end. The number after a method is the length of its lead-in in pixel frames.",
            "",
            *table(errors),
            "",
            f"Sum over the columns, for repeated frames: {sums}. The default, `LEAD_IN_FRAMES` of "
            f"`pusa_core.sampling.keyframes`, is {LEAD_IN_FRAMES}: the shortest within one percent of the best.",
            "",
            "`last frame alone` encodes an image by itself, which gives the kind of latent that starts a video. `clip "
            "alone` gives its first frame such a latent too, and the VAE drops its last three frames. The frames that "
            "actually precede the clip work better still, if available: give the longer clip, and set its first latent "
            "frames back to level 1 with Frame Conditioning Mask.",
            "",
        ]
    )


def main() -> None:
    args = read_arguments(__doc__, clips=24)
    started = time.monotonic()
    errors = measure(args.clips)
    REPORT.write_text(report(errors, args.clips, time.monotonic() - started))


if __name__ == "__main__":
    main()
