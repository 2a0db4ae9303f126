"""A KV cache for given frames: their keys and values are reused across sampling steps.

A frame at noise level 0 has the same latents and the same timestep at every step. Its keys and values still depend on
the other frames through attention, but change little, so they may be reused for some steps. In those steps only the
other frames go through the blocks, and they attend to all. Where levels vary within a frame, the same holds for tokens.
``benchmarks/demo_model/REFRESH.md`` has the speed-up and the error.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .attention import Attention, Block, hook_self_attention
from .modulation import Vectors


def check_refresh(every: int) -> None:
    """Raise ``ValueError`` unless ``every`` is a number of steps, or 0 for a cache that is filled only once."""
    if every < 0:
        raise ValueError(f"given_frames_refresh is {every}; give 1 (every step), a number of steps, or 0 (only once)")


@dataclass(frozen=True)
class FrozenFrames:
    """Which latent frames stay at noise level 0 in a sampling run, which do not, and when the cache is filled anew.

    ``frozen``, ``active``: latent frames, or, where levels vary within a frame, tokens, numbered as the network does.
    ``refresh``: the number of steps for which cached keys and values are used; 0: to the end of the run.
    """

    frozen: tuple[int, ...]
    active: tuple[int, ...]
    refresh: int

    @classmethod
    def of_table(cls, table: Tensor, refresh: int, *, whole_frames: bool = False) -> "FrozenFrames | None":
        """For a sigma table ``[steps + 1, F]`` or ``[steps + 1, F, h, w]``; None where a cache would save nothing.

        ``whole_frames``: keep no parts of frames, as where every process has a band of every frame. Raises
        ``ValueError`` for a negative ``refresh``.
        """
        check_refresh(refresh)
        at_zero = (table == 0).all(dim=0)
        still = (at_zero.view(len(at_zero), -1).all(dim=1) if whole_frames else at_zero.flatten()).tolist()
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
        """What the network predicts for ``latents [B, C, F, H, W]`` at ``timestep [B, F]`` or ``[B, F, h, w]``.

        ``network(latents, timestep, context, blocks=...)`` is called like
        :meth:`pusa_core.model.dit.WanModel.forward`. In steps that use the cache, frozen frames pass the blocks
        unchanged, and their velocity is meaningless: nothing moves at noise level 0.
        """
        refresh = self.frames.refresh
        filling = self._calls % refresh == 0 if refresh else self._calls == 0
        self._calls += 1
        if filling:
            self._layers = {}  # freed before the new ones are allocated
        frozen, active = (self._index(each, latents.device) for each in (self.frames.frozen, self.frames.active))
        hooked = [
            hook_self_attention(block, partial(self._fill, layer, frozen))
            if filling
            else partial(self._reuse, hook_self_attention(block, partial(self._attend, layer)), active)
            for layer, block in enumerate(blocks)
        ]
        return network(latents, timestep, context, blocks=hooked)

    def _fill(self, layer: int, frozen: Tensor, attend: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of all tokens; the keys and values of frozen ones are kept."""
        tokens = self._tokens(frozen, k.shape[1])
        self._layers[layer] = k.index_select(1, tokens), v.index_select(1, tokens)
        return attend(q, k, v)

    def _attend(self, layer: int, attend: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of the active tokens to all."""
        keys, values = self._layers[layer]
        return attend(q, torch.cat((keys, k), dim=1), torch.cat((values, v), dim=1))

    def _reuse(
        self,
        block: Block,
        active: Tensor,
        x: Tensor,
        time: Tensor | Vectors,
        context: Tensor,
        rope: Tensor,
        attend: Attention,
        self_attend: Attention | None = None,
    ) -> Tensor:
        """``block`` with the active tokens alone; called like :meth:`pusa_core.model.dit.WanBlock.forward`."""
        tokens = self._tokens(active, x.shape[1])
        own = time.index_select(1, active) if isinstance(time, Tensor) else time.of_tokens(tokens)
        updated = block(x.index_select(1, tokens), own, context, rope.index_select(0, tokens), attend, self_attend)
        return x.index_copy(1, tokens, updated)

    def _tokens(self, frames: Tensor, count: int) -> Tensor:
        """The tokens, of ``count`` in all, that ``frames`` (or tokens) consist of."""
        each = count // (len(self.frames.frozen) + len(self.frames.active))
        return (frames[:, None] * each + torch.arange(each, device=frames.device)).flatten()

    def _index(self, frames: tuple[int, ...], device: torch.device) -> Tensor:
        """``frames`` as an index on ``device``, copied there once: every copy makes the host wait for the device."""
        if (frames, device) not in self._indices:
            self._indices[frames, device] = torch.tensor(frames, device=device)
        return self._indices[frames, device]
