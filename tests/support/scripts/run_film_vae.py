"""Prints how far latents decoded part by part are from the same latents decoded at once, and the range of the latter.

With a VAE whose convolutions look back in time; those of the demo's look at the present frame alone.
"""

import json
import sys

from in_comfyui import load_pack

load_pack()

import torch  # noqa: E402
from pack.nodes.comfyui.demo_encoders import demo_vae  # noqa: E402
from pack.nodes.comfyui.film_vae import FilmVae  # noqa: E402

vae = demo_vae(sys.argv[1])
film = FilmVae(vae)
latents = torch.randn(1, 16, 9, 4, 4, generator=torch.Generator().manual_seed(0))
whole = vae.decode(film._format.process_out(latents))
errors = []
for sizes in ((9,), (1, 3, 5), (2, 2, 2, 3), (1,) * 9):
    parts = torch.cat(list(film.decode_stream(latents.split(sizes, dim=2))), dim=1)
    errors.append((parts - whole.reshape(parts.shape)).abs().max().item() if parts.numel() == whole.numel() else 1.0)
print(json.dumps({"errors": errors, "range": (whole.max() - whole.min()).item()}))
