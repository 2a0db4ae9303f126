"""A KV cache for given frames: their keys and values are reused across sampling steps.

A frame at noise level 0 has the same latents and the same timestep at every step. Its keys and values still depend on
the other frames through attention, but change little, so they may be reused for some steps. In those steps only the
other frames go through the network, and they attend to all. ``benchmarks/demo_model/REFRESH.md`` has the speed-up and
the error.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .attention import Attention, Block, hook_self_attention
from .axes import rearrange


def check_refresh(every: int) -> None:
    """Raise ``ValueError`` unless ``every`` is a number of steps, or 0 for a cache that is filled only once."""
    if every < 0:
        raise ValueError(f"given_frames_refresh is {every}; give 1 (every step), a number of steps, or 0 (only once)")


@dataclass(frozen=True)
class FrozenFrames:
    """Which latent frames stay at noise level 0 in a sampling run, which do not, and when the cache is filled anew.

    ``refresh``: the number of steps for which cached keys and values are used; 0: to the end of the run.
    """

    frozen: tuple[int, ...]
    active: tuple[int, ...]
    refresh: int

    @classmethod
    def of_table(cls, table: Tensor, refresh: int) -> "FrozenFrames | None":
        """For a sigma table ``[steps + 1, F]``; None where a cache would save nothing.

        Raises ``ValueError`` for a negative ``refresh``.
        """
        check_refresh(refresh)
        still = (table == 0).all(dim=0).tolist()
        frozen = tuple(frame for frame, is_still in enumerate(still) if is_still)
        active = tuple(frame for frame, is_still in enumerate(still) if not is_still)
        return cls(frozen, active, refresh) if refresh != 1 and frozen and active else None


class KVCache:
    """Keys and values of the frozen frames in every block, for one conditioning of one sampling run.

    Prompt and negative prompt need a cache each. It counts its own calls, one a step.
    """

    def __init__(self, frames: FrozenFrames) -> None:
        self.frames = frames
        self._calls = 0
        self._filling = True
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}  # keys and values [B, N, heads, d] by block
        self._indices: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}

    def velocity(
        self,
        network: Callable[..., Tensor],
        blocks: Iterable[Block],
        latents: Tensor,
        timestep: Tensor,
        context: Tensor,
    ) -> Tensor:
        """What the network predicts for ``latents [B, C, F, H, W]`` at ``timestep [B, F]``.

        ``network(latents, timestep, context, blocks=..., frame_indices=...)`` is called like
        :meth:`pusa_core.model.dit.WanModel.forward`. In steps that use the cache it gets the active frames alone; the
        velocity of frozen frames is then 0.
        """
        refresh = self.frames.refresh
        self._filling = self._calls % refresh == 0 if refresh else self._calls == 0
        self._calls += 1
        hooked = [hook_self_attention(block, partial(self._attend, layer)) for layer, block in enumerate(blocks)]
        if self._filling:
            self._layers = {}  # freed before the new ones are allocated
            return network(latents, timestep, context, blocks=hooked)
        active = self._index(self.frames.active, latents.device)
        chosen = latents.index_select(2, active), timestep.index_select(1, active)
        velocity = network(*chosen, context, blocks=hooked, frame_indices=self.frames.active)
        whole = velocity.new_zeros(*velocity.shape[:2], *latents.shape[2:])
        return whole.index_copy_(2, active, velocity)

    def _attend(self, layer: int, attend: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, *self.update(layer, k, v))

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values ``[B, N, heads, d]`` to attend to: these, with the cached ones where frames were left out."""
        if not self._filling:
            keys, values = self._layers[layer]
            return torch.cat((keys, k), dim=1), torch.cat((values, v), dim=1)
        frames = len(self.frames.frozen) + len(self.frames.active)
        frozen = self._index(self.frames.frozen, k.device)
        by_frame = (rearrange(x, "b (f n) heads d -> b f n heads d", f=frames) for x in (k, v))
        keys, values = (rearrange(x.index_select(1, frozen), "b f n heads d -> b (f n) heads d") for x in by_frame)
        self._layers[layer] = keys, values
        return k, v

    def _index(self, frames: tuple[int, ...], device: torch.device) -> Tensor:
        """``frames`` as an index on ``device``, copied there once: every copy makes the host wait for the device."""
        if (frames, device) not in self._indices:
            self._indices[frames, device] = torch.tensor(frames, device=device)
        return self._indices[frames, device]
