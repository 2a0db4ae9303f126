"""A network that knows the truth: at every time it returns the exact velocity towards it.

It stands for the network of a MODEL and reads the times it gets as that network would. Where a time is 0 it returns
nonsense, as nothing may depend on it.
"""

import importlib
from typing import Any

import torch
from torch import Tensor

from .networks import FRAMES, Kind, nested

NONSENSE = 1e3


class Oracle:
    """Stands for ``network._forward``. ``truth``: latents of the network, the video's and the sound's.

    ``beside``: the greatest difference of the time of tokens that are not of the video from what it has to be.
    """

    def __init__(self, kind: Kind, model: Any, truth: list[Tensor]) -> None:
        self.kind = kind
        self.model = model
        self.truth = truth
        self.beside = 0.0

    def __call__(self, x: Any, timestep: Any, *args: Any, **kwargs: Any) -> Any:
        own = self.step_time(args, kwargs)
        if self.kind.order:
            return self.velocity(x[:, : self.kind.channels], self.wan_times(x, timestep, own, kwargs), 0)
        if self.kind.config == "MiniMaxH3":
            times = [own, self.sound_time(own)]
            for index, name in enumerate(("denoise_mask", "audio_denoise_mask")):
                mask = kwargs.get(name)
                times[index] = times[index] * (1.0 if mask is None else mask)
            return [self.velocity(each, times[index], index) for index, each in enumerate(x)]
        if isinstance(x, list):
            both = (timestep, kwargs["a_timestep"])
            return [self.velocity(each, self.ltx_times(both[i], each, i), i) for i, each in enumerate(x)]
        if self.kind.config == "LTXV":
            return self.velocity(x, self.ltx_times(timestep, x, 0), 0)
        return self.velocity(x, timestep.view(len(x), 1, -1, 1, 1), 0)  # Cosmos

    def step_time(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        options = next(each for each in (*args, *kwargs.values()) if isinstance(each, dict) and "sigmas" in each)
        return options["sigmas"][0]

    def velocity(self, x: Tensor, time: Tensor, stream: int) -> Tensor:
        time = time.to(x)
        return torch.where(time > 0, (x - self.truth[stream]) / time.clamp(min=1e-9), NONSENSE)

    def wan_times(self, x: Tensor, timestep: Tensor, own: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """The time of every token, spread over them by ComfyUI's own function; those of the video as latents."""
        native = importlib.import_module("comfy.ldm.wan.model")
        counts = {"video": tokens(x)} | {name: tokens(kwargs[name]) for name in self.kind.order if name != "video"}
        times = timestep if timestep.ndim == 2 else timestep[:, None]
        expected = 1000 * own
        if self.kind.config == "WAN22_S2V":  # which itself puts its reference at 0
            times = timestep if timestep.ndim == 2 else timestep[:, None].repeat(1, FRAMES)
            times, expected = torch.cat([times, torch.zeros(len(times), 1)], 1), torch.zeros(())
        spread = native.repeat_e(times[..., None], torch.zeros(1, sum(counts.values()), 1)).squeeze(-1)
        spread = spread.expand(-1, sum(counts.values()))
        parts = dict(zip(self.kind.order, spread.split([counts[name] for name in self.kind.order], 1), strict=True))
        for name, part in parts.items():
            if name != "video":
                self.beside = max(self.beside, (part - expected).abs().max().item() / 1000)
        grid = parts["video"].view(len(x), 1, x.shape[2], x.shape[3] // 2, x.shape[4] // 2) / 1000
        return grid.repeat_interleave(2, 3).repeat_interleave(2, 4)

    def ltx_times(self, timestep: Tensor, x: Tensor, stream: int) -> Tensor:
        if timestep.numel() == len(x):
            return timestep.view(-1, *[1] * (x.ndim - 1))
        shape = (len(x), 1, *x.shape[2:]) if stream == 0 else (len(x), 1, x.shape[2], 1)
        return timestep.view(shape)

    def sound_time(self, own: Tensor) -> Tensor:
        """MiniMax-H3 denoises its sound along a schedule of its own."""
        shift = importlib.import_module("comfy.ldm.minimax.model").time_shift_sigma
        network = self.model.diffusion_model
        return shift(own.clamp(min=1e-6), network.sigma_shift_video, network.sigma_shift_audio)


def tokens(latents: Tensor) -> int:
    frames = latents.shape[2] if latents.ndim == 5 else 1
    return frames * (latents.shape[-2] // 2) * (latents.shape[-1] // 2)


def raw(model: Any, truth: list[Tensor]) -> Any:
    """Latents of the network as a LATENT has them."""
    return nested([model.latent_format.process_out(truth[0]), *truth[1:]])
