"""Frame-aware flow matching (FAFM): an independent noise level per latent frame, or per token.

Source: Pusa, arXiv 2507.16116, eq. 4-5 and section "PTSS"; reference ``train_wan_pusa.py``.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.modulation import limit_levels
from ..sampling.sampler import per_frame
from ..sampling.schedule import PATCH, TIMESTEPS

BOXES = 3
HISTORY = 8  # latent frames
HISTORY_LEVEL = 0.5

Weighting = Literal["none", "bell", "reference"]
NoiseRange = tuple[float, float]
FULL_RANGE: NoiseRange = (0.0, 1.0)


def sample_sigmas(
    batch: int,
    frames: int,
    *,
    p_async: float = 1.0,
    shift: float = 5.0,
    noise_range: NoiseRange = FULL_RANGE,
    p_given: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Noise levels ``[batch, frames]`` for training (probabilistic timestep sampling, PTSS).

    A sample is asynchronous with probability ``p_async``: an independent level per frame; otherwise its frames share
    one. Levels are ``shift u / (1 + (shift - 1) u)`` with uniform ``u``: shift 5 as for the released weights, 1 as in
    the paper's text. They are on the generator's device.

    ``noise_range``: draw from the part of that distribution within ``(low, high)``, for one of Wan2.2's two experts.
    Given frames are below the range of the high-noise expert when it samples, so each frame of an asynchronous sample
    is drawn from the part below ``low`` with probability ``p_given``. A sample all of whose frames would be there has
    none there.
    """
    if not 0 <= p_async <= 1:
        raise ValueError(f"p_async is {p_async}; it is a probability, 0 to 1")
    if not shift > 0:
        raise ValueError(f"shift is {shift}; it must be positive (5.0 as released, 1.0 as in the paper)")
    check_range(noise_range)
    if not 0 <= p_given <= 1:
        raise ValueError(f"p_given is {p_given}; it is a probability, 0 to 1")
    device = None if generator is None else generator.device
    # the inverse of the shift, exact at 0 and 1: without a range, u stays as drawn
    low, high = (sigma / (shift - (shift - 1) * sigma) for sigma in noise_range)
    drawn = torch.rand(batch, frames, generator=generator, device=device)
    u = low + (high - low) * drawn
    shared = torch.rand(batch, 1, generator=generator, device=device) >= p_async
    if low and p_given:
        below = torch.rand(batch, frames, generator=generator, device=device) < p_given
        u = torch.where(below & ~below.all(dim=1, keepdim=True) & ~shared, low * drawn, u)
    u = torch.where(shared, u[:, :1], u)
    return shift * u / (1 + (shift - 1) * u)


def check_range(noise_range: tuple[float, ...]) -> None:
    """Raise ``ValueError`` unless these are two noise levels, the lower one first."""
    if len(noise_range) != 2 or not 0 <= noise_range[0] < noise_range[1] <= 1:
        raise ValueError(
            f"noise_range is {list(noise_range)}; use two noise levels from 0 to 1, the lower one first: [0.875, 1] "
            f"for Wan2.2's high-noise expert, [0, 0.875] for the low-noise one"
        )


def with_history(sigmas: Tensor, *, p_history: float, generator: torch.Generator | None = None) -> Tensor:
    """The noise levels ``[F]`` of a sample, with probability ``p_history`` those of a window of a long video.

    There, the first frame is given, up to ``HISTORY`` frames behind it are a ramp of at most ``HISTORY_LEVEL`` times
    the level of the others, and those share the level of the last (:class:`pusa_core.sampling.windows.Recipe`).
    """
    if not 0 <= p_history <= 1:
        raise ValueError(f"p_history is {p_history}; it is a probability, 0 to 1")
    chance, length, *ends = torch.rand(4, generator=generator).tolist()
    if chance >= p_history:
        return sigmas
    count = min(int(length * (HISTORY + 1)), max(len(sigmas) - 2, 0))
    share = torch.ones_like(sigmas)
    share[0] = 0
    share[1 : count + 1] = HISTORY_LEVEL * torch.linspace(min(ends), max(ends), count)
    return sigmas[-1] * share


def with_regions(
    sigmas: Tensor,
    size: tuple[int, int],
    *,
    p_region: float,
    shift: float = 5.0,
    noise_range: NoiseRange = FULL_RANGE,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The noise levels ``[F]`` of a sample for each of its tokens, ``[F, h, w]``; ``size``: h and w.

    With probability ``p_region`` there are one to ``BOXES`` boxes of some frames, rows and columns, each at a level of
    its own, of the distribution of :func:`sample_sigmas`; a later box covers an earlier one.
    """
    if not 0 <= p_region <= 1:
        raise ValueError(f"p_region is {p_region}; it is a probability, 0 to 1")
    levels = sigmas[:, None, None].repeat(1, *size)
    u = torch.rand(2, generator=generator)
    if u[0] >= p_region:
        return levels
    for _ in range(1 + int(u[1] * BOXES)):
        # the ends on each axis are drawn from twice its length, so that boxes often reach the edges, as masks do
        length = torch.tensor(levels.shape)[:, None]
        ends = (length * (2 * torch.rand(3, 2, generator=generator) - 0.5)).long().clamp(min=0).minimum(length - 1)
        ends = ends.sort(dim=1).values
        frames, rows, columns = (slice(first, last + 1) for first, last in ends.tolist())
        levels[frames, rows, columns] = sample_sigmas(1, 1, shift=shift, noise_range=noise_range, generator=generator)
    return limit_levels(levels)


@lru_cache(maxsize=1)
def _bell_constants() -> tuple[float, float]:
    """Minimum and normalising factor of the bell over the reference's 1000 timesteps at shift 5."""
    u = 1 - torch.arange(1000, dtype=torch.float64) / 1000
    bell = _bell(5 * u / (1 + 4 * u))
    return bell.min().item(), (1000 / (bell - bell.min()).sum()).item()


def _bell(sigmas: Tensor) -> Tensor:
    return torch.exp(-2 * (sigmas - 0.5) ** 2)


def loss_weight(sigmas: Tensor) -> Tensor:
    """The reference's bell-shaped loss weight, elementwise: 0 at sigma 1, 2.08 at 0.5, mean 1."""
    minimum, scale = _bell_constants()
    return (_bell(sigmas) - minimum) * scale


def squared_errors(
    model: Callable[[Tensor, Tensor, Tensor], Tensor],
    latents: Tensor,
    context: Tensor,
    noise: Tensor,
    sigmas: Tensor,
    given: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the predicted velocity, fp32, like ``sigmas``; arguments as in :func:`fafm_loss`."""
    sigma = torch.cat([per_frame(sample, latents) for sample in sigmas])
    noisy = (1 - sigma) * (latents if given is None else given) + sigma * noise
    velocity = model(noisy, TIMESTEPS * sigmas, context)
    squared = (velocity.float() - (noise - latents).float()).square()  # [B, C, F, H, W]
    squared = squared * (sigma > 0)  # what is given has no noise to predict
    if sigmas.ndim == 2:
        return squared.mean(dim=(1, 3, 4))
    return F.avg_pool3d(squared.mean(dim=1), (1, PATCH, PATCH))


def fafm_loss(
    model: Callable[[Tensor, Tensor, Tensor], Tensor],
    latents: Tensor,
    context: Tensor,
    noise: Tensor,
    sigmas: Tensor,
    *,
    weighting: Weighting = "none",
    given: Tensor | None = None,
    trained: Tensor | None = None,
) -> Tensor:
    """Flow-matching loss with one noise level per latent frame, or per token: a scalar.

    The model predicts ``noise - latents`` from ``(1 - sigma) latents + sigma noise`` at timestep ``1000 sigma``.

    Args:
        model: ``model(latents, timestep, context) -> velocity``; ``timestep`` like ``sigmas``.
        latents, noise: ``[B, C, F, H, W]``.
        context: text embedding ``[B, L, text_dim]``.
        sigmas: ``[B, F]``, or ``[B, F, H / 2, W / 2]``, in 0..1, see :func:`sample_sigmas`.
        weighting: ``"none"``: uniform (the paper); ``"bell"``: each error times :func:`loss_weight` of its own level;
            ``"reference"``: the sample's error times the mean weight of its levels (the public training script).
        given: what the model sees noise added to, where that is not ``latents``; of frames that are not ``trained``.
        trained: ``[B, F]``, the frames whose errors count; all of them by default.
    """
    if weighting not in get_args(Weighting):
        raise ValueError(f'weighting is "{weighting}"; choose one of {", ".join(get_args(Weighting))}')
    batch, _, frames, height, width = latents.shape
    grid = (batch, frames, height // PATCH, width // PATCH)
    if sigmas.shape not in (grid[:2], grid):
        raise ValueError(
            f"sigmas have shape {tuple(sigmas.shape)}; latents of shape {tuple(latents.shape)} need {list(grid[:2])}, "
            f"or {list(grid)} for a level per token"
        )
    error = squared_errors(model, latents, context, noise, sigmas, given)
    if trained is not None:
        share = trained.float().mean(dim=1, keepdim=True)
        error = error * (trained / share).view(batch, frames, *[1] * (error.ndim - 2))
    if weighting == "bell":
        error = error * loss_weight(sigmas)
    elif weighting == "reference":
        error = error.flatten(1).mean(dim=1) * loss_weight(sigmas).flatten(1).mean(dim=1)
    return error.mean()
