"""Training on histories that the network made itself, with its errors, as those of a long video are.

They are its own one-step estimates, as in the error recycling of Stable Video Infinity (arXiv 2510.09212).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sampling.schedule import TIMESTEPS


@dataclass(frozen=True)
class OwnHistory:
    """Of a batch: which latent ``frames`` ``[B, F]`` the network makes, and from which noise ``level`` ``[B]``."""

    frames: Tensor
    level: Tensor

    def to(self, device: torch.device) -> "OwnHistory":
        return OwnHistory(self.frames.to(device), self.level.to(device))


def history_frames(sigmas: Tensor) -> Tensor:
    """Which frames of a sample with levels ``[F]`` are a history ``[F]``: the first ones, below the others' one level.

    Those at level 0 are given, and made by nobody.
    """
    below = sigmas < sigmas[-1]
    count = int(below.sum())
    is_history = bool(below[:count].all() and (sigmas[count:] == sigmas[-1]).all())
    return below & (sigmas > 0) if is_history else torch.zeros_like(below)


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
    return torch.where(history.frames[:, None, :, None, None], made, latents), ~history.frames
