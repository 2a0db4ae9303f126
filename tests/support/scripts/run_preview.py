"""Prints the error of the live preview of a demo clip, in the demo's colours and in ComfyUI's.

Mean absolute error of RGB in 0..1, against the decoded picture at the preview's resolution.
"""

import json

from in_comfyui import load_pack

pack = load_pack()

import comfy.cli_args  # noqa: E402
import comfy.latent_formats  # noqa: E402
import latent_preview  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from pack.demo.clips import draw_scene  # noqa: E402
from pack.nodes.comfyui.demo_encoders import demo_vae  # noqa: E402
from pack.nodes.comfyui.demo_preview import preview_in_demo_colours  # noqa: E402
from pack.nodes.comfyui.model import load_wan  # noqa: E402
from pack.pusa_core.weights.demo_files import DIT, VAE  # noqa: E402

SCENES = range(20200, 20208)  # not those that the colours were fitted to

comfy.cli_args.args.preview_method = comfy.cli_args.LatentPreviewMethod.Latent2RGB
model, vae = load_wan(str(DIT), {}), demo_vae(str(VAE))
preview_in_demo_colours(model)
formats = {"demo": model.model.latent_format, "wan": comfy.latent_formats.Wan21()}
errors: dict[str, list[float]] = {name: [] for name in formats}
for seed in SCENES:
    with torch.inference_mode():
        raw = vae.encode(torch.from_numpy(draw_scene(seed).render(range(9))))
        decoded = vae.decode(raw).reshape(9, 64, 64, 3)
    picture = decoded[4].reshape(8, 8, 8, 8, 3).mean((1, 3)).numpy()  # the last frame of latent frame 1
    for name, latents in formats.items():
        previewer = latent_preview.get_previewer(torch.device("cpu"), latents)
        shown = previewer.decode_latent_to_preview(latents.process_in(raw)[:, :, 1:2])
        errors[name].append(float(np.abs(np.asarray(shown) / 255 - picture).mean()))
print(json.dumps({name: sum(values) / len(values) for name, values in errors.items()}))
