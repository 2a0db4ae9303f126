"""Training on a history: the first latent frames are given at a level of their own, as when a long video goes on.

In sampling, given frames of noise level m are at m times the level of the others, in every step. And a long video's
history is no clip, but what the network has made itself, with its errors; the network is trained on them by giving it
its own one-step estimates, as in the error recycling of Stable Video Infinity (arXiv 2510.09212).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sampling.schedule import TIMESTEPS


@dataclass(frozen=True)
class OwnHistory:
    """Histories that the network makes: how many latent ``frames`` ``[B]``, and from which noise ``level`` ``[B]``."""

    frames: Tensor
    level: Tensor

    def to(self, device: torch.device) -> "OwnHistory":
        return OwnHistory(self.frames.to(device), self.level.to(device))


def with_history(
    sigmas: Tensor, *, p_history: float, noise: tuple[float, ...], generator: torch.Generator
) -> tuple[Tensor, int]:
    """The noise levels ``[F]`` of a sample, with probability ``p_history`` as they are in sampling with a history.

    Then all frames but the history's are at the level of the last one, and the history is at a share of that, drawn
    from ``noise`` (lowest, highest). Returns the levels and how many frames are history, from 1 to F - 1, or 0.
    """
    chance, part, share = torch.rand(3, generator=generator).tolist()
    frames = len(sigmas)
    if frames == 1 or chance >= p_history:
        return sigmas, 0
    history = 1 + int(part * (frames - 1))
    low, high = noise
    levels = sigmas[-1].repeat(frames)
    levels[:history] *= low + (high - low) * share
    return levels, history


@torch.no_grad()
def make_history(
    model: Callable[[Tensor, Tensor, Tensor], Tensor],
    latents: Tensor,
    context: Tensor,
    noise: Tensor,
    history: OwnHistory,
) -> tuple[Tensor, Tensor]:
    """The latents with the network's own histories, and which frames ``[B, F]`` are to be trained on: the others.

    A history is the network's estimate of the clip from all of its frames at one level, in one pass. Nothing is learnt
    from its own frames, which are not to be taken for the clip's.
    """
    level = history.level.view(-1, 1, 1, 1, 1)
    noisy = (1 - level) * latents + level * noise.roll(1, dims=2)  # not the noise that the frame itself gets
    made = noisy - level * model(noisy, TIMESTEPS * history.level, context).float()
    trained = torch.arange(latents.shape[2], device=latents.device) >= history.frames[:, None]
    return torch.where(trained[:, None, :, None, None], latents, made), trained
