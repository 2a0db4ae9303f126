"""Runs ComfyUI's samplers on a flow with a known solution; a script for ComfyUI's own Python, from its folder.

Prints one JSON object: for each sampler that Pusa Patch Model allows, its greatest difference from running at every
level alone (``alone``) and from the exact solution after 20 and after 40 steps (``error``), with a level for every
frame (``allowed``) and for every token (``tokens``); for each other one, the message with which it is refused; and what
becomes of euler with an option that adds noise (``with option``).

The data of the flow are normal with mean ``MEAN`` and standard deviation ``SPREAD``, so velocity and solution have
closed forms: ``x_sigma = (1 - sigma) MEAN + sqrt((1 - sigma)^2 SPREAD^2 + sigma^2) c`` with a constant ``c``.
"""

import importlib
import json
from types import SimpleNamespace
from typing import Any

import torch
from in_comfyui import load_pack
from torch import Tensor

LEVELS = torch.tensor([1.0, 0.7, 0.3, 0.05, 0.0], dtype=torch.float64)
TOKENS = LEVELS[torch.tensor([0, 1, 2, 3, 4, 1, 3, 0, 4, 2, 2, 4, 0, 3, 1, 4, 4, 1, 0, 2]).view(5, 2, 2)]
MEAN, SPREAD = 0.8, 0.4


def deviation(sigma: Tensor) -> Tensor:
    return ((1 - sigma) ** 2 * SPREAD**2 + sigma**2).sqrt()


def velocity(x: Tensor, sigma: Tensor) -> Tensor:
    centered = (x - (1 - sigma) * MEAN) / deviation(sigma) ** 2
    return sigma * centered - MEAN - (1 - sigma) * SPREAD**2 * centered


def solution(start: Tensor, sigma: Tensor) -> Tensor:
    """Where ``start``, at the noise level ``sigma``, ends."""
    return MEAN + SPREAD * (start - (1 - sigma) * MEAN) / deviation(sigma)


def blown_up(levels: Tensor, x: Tensor) -> Tensor:
    """Levels ``[F]`` or ``[F, h, w]`` for each of the latents ``x``."""
    levels = levels.view(len(levels), *(levels.shape[1:] or (1, 1)))
    height, width = (-(-size // part) for size, part in zip(x.shape[-2:], levels.shape[-2:], strict=True))
    return levels.repeat_interleave(height, 1).repeat_interleave(width, 2).expand_as(x)


class Network:
    """What a sampler of ComfyUI calls: one sigma in, the clean estimate out."""

    def __init__(self, sampling: Any) -> None:
        self.timesteps = importlib.import_module("pack.nodes.comfyui.timesteps")
        self.inner_model = SimpleNamespace(model_sampling=sampling)
        self.inner_model.model_patcher = self.model_patcher = SimpleNamespace(
            model=self, get_model_object=lambda name: sampling
        )
        self.inner_model.inner_model, self.cfg = self.inner_model, 1.0

    def __call__(self, x: Tensor, sigma: Tensor, model_options: dict | None = None, seed: Any = None) -> Tensor:
        def network(x: Tensor, timestep: Tensor, *args: Any) -> Tensor:
            if timestep.ndim == 1:
                return velocity(x, timestep.view(-1, 1, 1, 1, 1) / 1000)
            frames, height, width = x.shape[2:]
            grid = (height // 2, width // 2) if timestep.shape[1] > frames else (1, 1)
            return velocity(x, blown_up(timestep.view(frames, *grid), x) / 1000)

        options = (model_options or {}).get("transformer_options", {})
        if self.timesteps.KEY not in options:
            return x - sigma.view(-1, 1, 1, 1, 1) * network(x, 1000 * sigma)
        rest = (None, None, None, {**options, "sigmas": sigma})
        scaled = self.timesteps.per_frame_timesteps(network, x, 1000 * sigma, *rest)
        return x - sigma.view(-1, 1, 1, 1, 1) * scaled


def run(host: Any, samplers: Any, name: str, levels: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """The sampler at all levels at once, at every level alone, and the exact solution."""
    import comfy.model_sampling

    class Sampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    network = Network(Sampling())
    generator = torch.Generator().manual_seed(0)
    noise, given = (torch.randn(1, 2, 5, 4, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    u = 1 - torch.arange(steps + 1, dtype=torch.float64) / steps
    sigmas = 5 * u / (1 + 4 * u)

    def sample(sampler: Any, sigmas: Tensor, noise: Tensor, given: Tensor) -> Tensor:
        return sampler.sample(network, sigmas, {"model_options": {}, "seed": 0}, None, noise, given, None, True)

    sampler = samplers.sampler_object(name)
    together = sample(host.AtNoiseLevels(sampler, levels), sigmas, noise.clone(), given)
    alone, level = given.clone(), blown_up(levels, given)
    for own in LEVELS[:-1]:
        part = level == own
        parts = (each[part].view(1, 1, 1, 1, -1) for each in (noise, given))
        alone[part] = sample(sampler, sigmas * own, *parts).flatten()
    exact = solution((1 - level) * given + level * noise, level)
    return together, alone, torch.where(level == 0, given, exact)


def main() -> None:
    load_pack()
    host, samplers = (
        importlib.import_module("pack.nodes.comfyui.noise_levels"),
        importlib.import_module("comfy.samplers"),
    )
    report: dict[str, Any] = {"allowed": {}, "tokens": {}, "refused": {}, "with option": {}}
    for option in ("s_churn", "eta"):
        for value in (0.0, 0.5):
            try:
                host.check_sampler(samplers.ksampler("euler", {option: value}))
                report["with option"][f"{option} {value}"] = "allowed"
            except ValueError as error:
                report["with option"][f"{option} {value}"] = str(error)
    for name in samplers.SAMPLER_NAMES:
        try:
            host.check_sampler(samplers.sampler_object(name))
        except ValueError as error:
            report["refused"][name] = str(error)
            continue
        for kind, levels in (("allowed", LEVELS), ("tokens", TOKENS)):
            runs = [run(host, samplers, name, levels, steps) for steps in (20, 40)]
            together, alone, _ = runs[0]
            report[kind][name] = {
                "alone": (together - alone).abs().max().item(),
                "error": [(together - exact).abs().max().item() for together, _, exact in runs],
            }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
