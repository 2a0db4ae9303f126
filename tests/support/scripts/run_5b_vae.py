"""Encodes keyframes with a small VAE of Wan2.2 TI2V-5B's kind; a script for ComfyUI's own Python, from its folder.

Prints one JSON object: the shapes of the latents, which frames are given, how far they are from those that the VAE
makes of the picture alone, and where a mask of one white pixel lands on the grid of tokens.
"""

import importlib
import json
import logging
from typing import Any

import torch
from in_comfyui import load_pack
from torch import Tensor

SIDE = 96  # pixels: 6 latents, 3 tokens


def small_vae() -> Any:
    from comfy.ldm.wan.vae2_2 import WanVAE

    torch.manual_seed(0)
    network = WanVAE(
        dim=8,
        z_dim=48,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=1,
        attn_scales=[],
        temperal_downsample=[False, True, True],
        dropout=0.0,
    ).eval()
    for name, parameter in network.named_parameters():  # ComfyUI leaves weights that a file would hold undefined
        torch.nn.init.ones_(parameter) if "gamma" in name else torch.nn.init.normal_(parameter, std=0.05)

    class Vae:
        latent_channels, latent_dim = 48, 3
        first_stage_model = network

        @torch.no_grad()
        def encode(self, pixels: Tensor) -> Tensor:
            return network.encode(2 * pixels[None, ..., :3].movedim(-1, 1) - 1)

    return Vae()


def main() -> None:
    load_pack()
    logging.disable(logging.WARNING)
    nodes = importlib.import_module("pack.nodes.encode_keyframes"), importlib.import_module("pack.nodes.frame_mask")
    encode = nodes[0].PusaEncodeKeyframes.execute
    vae, picture = small_vae(), torch.rand(1, SIDE, SIDE, 3)
    first = encode(vae, picture, 0, 17).result[0]
    both = encode(vae, picture, -1, 17, latent=first, noise_level=0.3).result[0]
    odd = encode(vae, torch.rand(1, 70, 130, 3), 0, 9).result[0]
    mask = torch.zeros(SIDE, SIDE)
    mask[31, 64] = 1.0  # the last row of the first token, the first column of the last
    tokens = nodes[1].tokens_of_mask(mask, both["samples"])
    refused = ""
    try:
        encode(vae, picture, 0, 17, latent={"samples": torch.zeros(1, 16, 5, 6, 6)})
    except ValueError as error:
        refused = str(error)
    alone = vae.encode(picture)
    print(
        json.dumps(
            {
                "shapes": [list(each["samples"].shape) for each in (first, both, odd)],
                "levels": both["noise_mask"].flatten().tolist(),
                "error": (both["samples"][:, :, :1] - alone).abs().max().item(),
                "size": alone.abs().max().item(),
                "white": tokens.nonzero().tolist(),
                "highest": tokens.max().item(),
                "refused": refused,
                "format": type(both["latent_format"]).__name__,
            }
        )
    )


if __name__ == "__main__":
    main()
