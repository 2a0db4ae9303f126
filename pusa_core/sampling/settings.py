"""Size and sampling of a video."""

import math
from dataclasses import dataclass

from ..model.kv_cache import check_refresh
from .keyframes import check_size, latent_length
from .schedule import flow_sigmas


@dataclass(frozen=True)
class Settings:
    """Size and sampling of a video. Raises ``ValueError`` for values that do not make one.

    ``width``, ``height``: pixels, divisible by 16. ``frames``: pixel frames, ``4 n + 1``. ``steps``, ``shift``: of the
    noise schedule (:func:`pusa_core.flow_sigmas`). ``cfg``: guidance scale; 1 turns guidance off. ``seed``: of the
    noise. ``given_frames_refresh``: steps for which keys and values of frames at noise level 0 are reused
    (:mod:`pusa_core.model.kv_cache`); 1: no reuse, 0: computed once.
    """

    width: int = 832
    height: int = 480
    frames: int = 81
    steps: int = 10
    cfg: float = 3.0
    shift: float = 5.0
    seed: int = 0
    given_frames_refresh: int = 1

    def __post_init__(self) -> None:
        check_size(self.width, self.height)
        latent_length(self.frames)
        flow_sigmas(self.steps, self.shift)
        if not math.isfinite(self.cfg):
            raise ValueError(f"cfg is {self.cfg}; it must be a finite number (3.0 is the default)")
        check_seed(self.seed)
        check_refresh(self.given_frames_refresh)


def check_seed(seed: int) -> int:
    """``seed`` itself. Raises ``ValueError`` unless it has 64 bits at most and no sign."""
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed is {seed}; it must be from 0 to {(1 << 64) - 1}")
    return seed
