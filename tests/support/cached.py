"""Sampling with a KV cache for given frames, composed as :mod:`pusa_core.sampling.pipeline` does it."""

from functools import partial

from torch import Tensor

from pusa_core import WanModel
from pusa_core.model.kv_cache import FrozenFrames, KVCache
from pusa_core.sampling.sampler import VelocityFn, conditioned_velocity, guide


def cached_velocity(
    model: WanModel,
    context: Tensor,
    negative: Tensor,
    cfg: float,
    table: Tensor,
    refresh: int,
    *,
    whole_frames: bool = False,
) -> VelocityFn:
    """``guided_velocity(model, context, negative, cfg)`` with a cache for each of the two prompts."""
    frames = FrozenFrames.of_table(table, refresh, whole_frames=whole_frames)

    def velocity(text: Tensor) -> VelocityFn:
        network = model if frames is None else partial(KVCache(frames).velocity, model, model.blocks)
        return conditioned_velocity(network, text)

    return guide(velocity(context), velocity(negative), cfg)
