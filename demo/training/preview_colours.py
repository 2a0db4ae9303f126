"""Fits the colours of ComfyUI's live preview to the demo's VAE: ``python -m demo.training.preview_colours``.

The preview shows latents through a linear map to RGB. ComfyUI's own map belongs to the Wan2.1 VAE. Writes
``demo/preview_colours.json``: ``factors [16][3]`` and ``bias [3]``, from normalised latents to -1..1.
"""

import json
import logging

import torch
from einops import rearrange, reduce
from torch import Tensor

from demo.clips import FRAMES, draw_scene
from demo.preview import COLOURS
from pusa_core import load_vae

log = logging.getLogger(__name__)

SCENES = range(20100, 20132)  # not seen in training
LENGTH = 33  # pixel frames of each


def latents_and_colours() -> tuple[Tensor, Tensor]:
    """Latents ``[N, 16]`` and the mean colours ``[N, 3]`` in -1..1 of the pixels that they are decoded to."""
    vae, latents, colours = load_vae("demo"), [], []
    for seed in SCENES:
        encoded = vae.encode(torch.from_numpy(draw_scene(seed).render(range(min(LENGTH, FRAMES)))))
        pixels = vae.decode(encoded) * 2 - 1
        last = pixels[::4]  # the last pixel frame of every latent frame, the first of the video included
        latents.append(rearrange(encoded, "1 c f h w -> (f h w) c"))
        colours.append(reduce(last, "f (h a) (w b) c -> (f h w) c", "mean", a=8, b=8))
    return torch.cat(latents), torch.cat(colours)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    latents, colours = latents_and_colours()
    design = torch.cat([latents, torch.ones(len(latents), 1)], 1)
    solution = torch.linalg.lstsq(design, colours).solution
    rounded = [[round(value, 4) for value in row] for row in solution.tolist()]
    error = (design @ torch.tensor(rounded) - colours).abs().mean() / 2
    log.info("mean absolute error, of colours in 0..1: %.4f", error)
    COLOURS.write_text(json.dumps({"factors": rounded[:-1], "bias": rounded[-1]}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
