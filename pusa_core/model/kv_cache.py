"""Given frames whose keys and values are kept from step to step, instead of being computed again at every one.

A frame that stays at noise level 0 has the same latents and the same time at every step. What it still takes from the
other frames changes little; so its keys and values in every block may be kept for some steps, in which only the other
frames are computed. They attend to all frames as ever. ``benchmarks/demo_model/REFRESH.md`` says what that
saves and what it costs.
"""

from collections.abc import Callable, Hashable, Iterable
from functools import partial

import torch
from torch import Tensor

from .attention import Attention

Layer = tuple[Tensor, Tensor]  # keys and values of the given frames' tokens, [B, N, heads, d] each


def check_refresh(every: int) -> None:
    """Raise ``ValueError`` unless ``every`` is a number of steps, or 0 for never again."""
    if every < 0:
        raise ValueError(f"given_frames_refresh is {every}; give 1 (every step), a number of steps, or 0 (only once)")


class GivenFrames:
    """What one sampling run keeps: which frames are given, and their keys and values in each of the network's passes.

    Args:
        given, others: latent frames.
        every: how many steps the keys and values are used for; 0: to the end.
    """

    def __init__(self, given: tuple[int, ...], others: tuple[int, ...], every: int) -> None:
        self.given, self.others, self.every = given, others, every
        self.step = 0
        self._passes: dict[Hashable, KeptFrames] = {}
        self._indices: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}

    @classmethod
    def of_table(cls, table: Tensor, every: int) -> "GivenFrames | None":
        """For a table of noise levels ``[steps + 1, F]``; None when there is nothing that could be left out."""
        check_refresh(every)
        frozen = (table == 0).all(dim=0).tolist()
        given = tuple(frame for frame, still in enumerate(frozen) if still)
        others = tuple(frame for frame, still in enumerate(frozen) if not still)
        return cls(given, others, every) if every != 1 and given and others else None

    def of_pass(self, key: Hashable) -> "KeptFrames":
        """The keys and values of one of the network's passes in a step, such as those of prompt and negative prompt."""
        return self._passes.setdefault(key, KeptFrames(self))

    def index(self, frames: tuple[int, ...], device: torch.device) -> Tensor:
        """``frames`` as an index on ``device``, where it is brought once: to bring it makes the host wait."""
        if (frames, device) not in self._indices:
            self._indices[frames, device] = torch.tensor(frames, device=device)
        return self._indices[frames, device]


class KeptFrames:
    """Keys and values of given frames in every block, of one pass of the network. Empty until its first step."""

    def __init__(self, run: GivenFrames) -> None:
        self.run = run
        self.step = 0
        self.layers: dict[int, Layer] = {}

    def due(self) -> bool:
        """Whether this step computes the given frames."""
        every = self.run.every
        return not self.layers or (every > 0 and self.run.step - self.step >= every)

    @torch.compiler.disable  # what is kept is new at every step, for which a compiler would compile anew
    def velocity(
        self,
        network: Callable[..., Tensor],
        blocks: Iterable[Callable[..., Tensor]],
        attend: Attention,
        latents: Tensor,
        timestep: Tensor,
        context: Tensor,
    ) -> Tensor:
        """What ``network(latents, timestep, context, blocks=..., frames=...)`` predicts, 0 in frames left out.

        ``latents [B, C, F, H, W]``, ``timestep [B, F]``; ``attend`` is the attention among the tokens.
        """
        if self.due():
            self.layers = {}  # first of all: they are large
            given = self.run.index(self.run.given, latents.device)
            keeping = [
                partial(block, self_attend=partial(self._keep, index, attend, latents.shape[2], given))
                for index, block in enumerate(blocks)
            ]
            self.step = self.run.step
            return network(latents, timestep, context, blocks=keeping)
        joining = [partial(block, self_attend=partial(self._join, index, attend)) for index, block in enumerate(blocks)]
        others = self.run.index(self.run.others, latents.device)
        chosen = latents.index_select(2, others), timestep.index_select(1, others)
        velocity = network(*chosen, context, blocks=joining, frames=self.run.others)
        whole = velocity.new_zeros(*velocity.shape[:2], *latents.shape[2:])
        return whole.index_copy_(2, others, velocity)

    def _keep(
        self, index: int, attend: Attention, frames: int, given: Tensor, q: Tensor, k: Tensor, v: Tensor
    ) -> Tensor:
        keys, values = (x.unflatten(1, (frames, -1)).index_select(1, given).flatten(1, 2) for x in (k, v))
        self.layers[index] = keys, values
        return attend(q, k, v)

    def _join(self, index: int, attend: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self.layers[index]
        return attend(q, torch.cat((keys, k), dim=1), torch.cat((values, v), dim=1))
