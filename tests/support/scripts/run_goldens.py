"""Runs the trajectories of the goldens through the nodes; a script for ComfyUI's own Python, from its folder.

Prints one JSON object: for each trajectory, the greatest error of the final latents through Pusa Sampler (``sampler``)
and through Pusa Patch Model and ComfyUI's own sampler on the native network (``ksampler``).

The network of the goldens is too small for ComfyUI's loaders, so its MODEL is made here; all else is what the nodes do.
"""

import importlib
import json
from types import SimpleNamespace
from typing import Any

import torch
from in_comfyui import PACK, load_pack
from safetensors.torch import load_file
from torch import Tensor

load_pack()
import comfy.model_patcher  # noqa: E402
import comfy.supported_models  # noqa: E402
from comfy_extras.nodes_model_advanced import ModelSamplingSD3  # noqa: E402

common_ksampler = importlib.import_module("nodes").common_ksampler  # ComfyUI's own nodes, not the pack's
core = importlib.import_module("pack.pusa_core")
frame_mask = importlib.import_module("pack.nodes.frame_mask")
keyframes = importlib.import_module("pack.nodes.encode_keyframes")
patch = importlib.import_module("pack.nodes.comfyui.noise_levels")
sampler = importlib.import_module("pack.nodes.sampler")
boundary = importlib.import_module("pack.pusa_core.sampling.denoise").EXPERT_BOUNDARY
host_network = importlib.import_module("pack.nodes.comfyui.network")

GOLDENS = PACK / "tests" / "goldens"
TEXT_DIM = (
    4096  # what the nodes expect; the goldens' narrower text is padded with zeros, and so is the layer reading it
)


def golden(name: str) -> dict[str, Tensor]:
    return load_file(GOLDENS / f"{name}.safetensors")


def pad(text: Tensor) -> Tensor:
    return torch.nn.functional.pad(text, (0, TEXT_DIM - text.shape[-1]))


def make_model(name: str, ours: bool, truncate: bool) -> Any:
    """A MODEL with the native network or ours. ``truncate`` cuts timesteps to integers, as the reference does."""
    weights = golden(name)
    weights["text_embedding.0.weight"] = pad(weights["text_embedding.0.weight"])
    config = core.WanConfig.from_state_dict(weights, num_heads=4)
    names = ("dim", "ffn_dim", "num_heads", "num_layers", "in_dim", "out_dim", "text_dim", "freq_dim", "eps")
    settings = {"image_model": "wan2.1", "model_type": "t2v", **{key: getattr(config, key) for key in names}}
    made = comfy.supported_models.WAN21_T2V(settings)
    made.set_inference_dtype(torch.float32, None)
    model = made.get_model({}, "")
    model.diffusion_model.load_state_dict(weights)
    if ours:
        model.diffusion_model = host_network.adopt(model.diffusion_model)
    if truncate:
        network = model.diffusion_model
        forward = network._forward
        network._forward = lambda x, timestep, *args, **kwargs: forward(x, timestep.trunc(), *args, **kwargs)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


class Encoded:
    """In place of a VAE: pictures of which the latent is known."""

    latent_channels, latent_dim = 16, 3

    def __init__(self, latent: Tensor) -> None:
        self.latent = latent

    def encode(self, frames: Tensor) -> Tensor:
        return self.latent.repeat(1, 1, core.latent_length(len(frames)), 1, 1)


def make_latent(details: dict[str, Any], recorded: dict[str, Tensor], noise: Tensor, raw: Any) -> dict[str, Any]:
    """Keyframes placed and noise levels set by the nodes. ``raw`` turns normalised latents into a VAE's."""
    if details["cond"] is None:
        return {"samples": torch.zeros_like(noise)}
    latent = None
    indices, levels = details["cond"]["indices"], details["cond"]["multipliers"]
    for index, level in zip(indices, levels, strict=True):
        part = slice(index, index + 1)
        clean = (recorded["latents_in"][:1, :, part] - level * noise[:, :, part]) / (1 - level)
        picture = torch.zeros(1, noise.shape[3] * 8, noise.shape[4] * 8, 3)
        node = keyframes.PusaEncodeKeyframes
        latent = node.execute(Encoded(raw(clean)), picture, index, 81, latent).result[0]
    frame_mask.PusaFrameMask.hidden = SimpleNamespace(prompt=None, extra_pnginfo=None)
    text = ", ".join(f"{index}:{level}" for index, level in zip(indices, levels, strict=True))
    return frame_mask.PusaFrameMask.execute(latent, text).result[0]


def run(name: str, details: dict[str, Any]) -> dict[str, float]:
    recorded, inputs = golden(name), golden("traj_inputs")
    steps, cfg = details["args"]["num_inference_steps"], details["args"]["cfg_scale"]
    positive, negative = ([[pad(inputs[f"context_{which}"]), {}]] for which in ("posi", "nega"))
    experts = ["dit_tiny", "dit_tiny_low"] if details["experts"] else ["dit_tiny"]
    truncate = details["cond"] is not None
    ours = [make_model(expert, True, truncate) for expert in experts]
    raw = ours[0].model.process_latent_out
    latent = make_latent(details, recorded, inputs["noise_seed0"], raw)

    def error(latents: dict[str, Any]) -> float:
        return (latents["samples"] - raw(recorded["final_latents"])).abs().max().item()

    node = sampler.PusaSampler
    video = node.execute(ours[0], positive, negative, latent, 0, steps, cfg, 5.0, *ours[1:]).result[0]
    shifted = [ModelSamplingSD3().patch(make_model(expert, False, truncate), 5.0)[0] for expert in experts]
    models = [patch.read_noise_levels(model) for model in shifted]
    starts = [0, core.switch_step(core.flow_sigmas(steps), boundary), steps] if len(models) > 1 else [0, steps]
    sampled = latent
    for model, first, last in zip(models, starts[:-1], starts[1:], strict=True):
        stage = {
            "start_step": first,
            "last_step": last,
            "disable_noise": first > 0,
            "force_full_denoise": last == steps,
        }
        sampled = common_ksampler(model, 0, steps, cfg, "euler", "simple", positive, negative, sampled, **stage)[0]
    return {"sampler": error(video), "ksampler": error(sampled)}


def main() -> None:
    files = json.loads((GOLDENS / "goldens.json").read_text())["files"]
    names = [name.removesuffix(".safetensors") for name, details in files.items() if details["what"] == "trajectory"]
    with torch.inference_mode():
        print(json.dumps({name: run(name, files[f"{name}.safetensors"]) for name in names}))


if __name__ == "__main__":
    main()
