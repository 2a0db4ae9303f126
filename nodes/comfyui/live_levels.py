"""Tells the page each frame's present noise level, along with the progress of the samplers."""

import torch
from comfy.samplers import Sampler
from comfy_execution.utils import get_executing_context
from torch import Tensor

from ...pusa_core.sampling.schedule import range_of_frames
from .timesteps import PerFrameSampler, StepCallback

EVENT = "pusa.noise_levels"  # web/js/timeline.js listens
DECIMALS = 4


def report_levels(callback: StepCallback | None, sampler: Sampler, sigmas: Tensor) -> StepCallback:
    """``callback``, and before it a message with the levels ``[F]`` that the frames have after the step.

    Where levels vary within a frame, that is the highest.
    """

    def report(step: int, denoised: Tensor, latents: Tensor, steps: int) -> None:
        levels = sigmas[step + 1]
        if isinstance(sampler, PerFrameSampler):
            levels = range_of_frames(sampler.levels_at(step + 1, sigmas))[1]
        tell_levels(levels.expand(latents.shape[2]) if latents.ndim == 5 else levels.reshape(-1))
        if callback is not None:
            callback(step, denoised, latents, steps)

    return report


def tell_levels(levels: Tensor) -> None:
    """Send ``levels [F]`` of the node that is running to the page that queued it; to nobody if none did."""
    running = get_executing_context()
    if running is None:
        return
    from server import PromptServer  # only where one runs: it cannot be imported after all else in ComfyUI 0.3.64

    server = PromptServer.instance
    if server.client_id is not None:
        rounded = torch.round(levels.double().cpu(), decimals=DECIMALS).tolist()
        server.send_sync(EVENT, {"node": running.node_id, "levels": rounded}, server.client_id)
