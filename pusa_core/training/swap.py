"""Block swap: the frozen weights of some blocks stay in main memory, and two of those blocks at a time on the device.

While a swapped block computes, the weights of the next one are copied: in the forward pass that is the one after it, in
the backward pass, where gradient checkpointing runs the blocks again from the last to the first, the one before it.
Frozen weights do not change, so nothing is ever copied back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

SLOTS = 2  # one computes, the other one is copied to
ALIGNMENT = 256  # bytes


class HostWeights:
    """The frozen weights of a block, moved to one buffer in main memory, which is pinned for a GPU."""

    def __init__(self, block: nn.Module, pinned: bool) -> None:
        self.weights = [value for value in block.parameters() if not value.requires_grad]
        self._offsets, size = [], 0
        for weight in self.weights:
            self._offsets.append(size)
            size += -(-weight.nbytes // ALIGNMENT) * ALIGNMENT
        self.buffer = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        for weight, place in zip(self.weights, self._views(self.buffer), strict=True):
            place.copy_(weight.data)
        self.use(self.buffer)

    def use(self, buffer: Tensor) -> None:
        """Let the block compute with its weights in ``buffer``, a copy of :attr:`buffer`."""
        for weight, place in zip(self.weights, self._views(buffer), strict=True):
            weight.data = place

    def _views(self, buffer: Tensor) -> list[Tensor]:
        return [
            buffer[offset : offset + weight.nbytes].view(weight.dtype).view(weight.shape)
            for offset, weight in zip(self._offsets, self.weights, strict=True)
        ]


class DirectCopies:
    """Copies that are finished when they return."""

    def start(self, target: Tensor, source: Tensor) -> Any:
        target.copy_(source)

    def wait(self, copy: Any) -> None:
        """Let nothing that follows run before a copy is finished."""


class StreamCopies(DirectCopies):
    """Copies from pinned memory on a CUDA stream of their own, beside the computation."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)

    def start(self, target: Tensor, source: Tensor) -> torch.cuda.Event:
        # what has been enqueued so far may still read the target
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            target.copy_(source, non_blocking=True)
            return self.stream.record_event()

    def wait(self, copy: torch.cuda.Event) -> None:
        torch.cuda.current_stream(self.device).wait_event(copy)


@dataclass
class Slot:
    """A buffer on the device; ``holds``: the place of the block whose weights are or will be in it."""

    buffer: Tensor
    holds: int = -1
    copy: Any = field(default=None, repr=False)


class BlockSwap:
    """Swaps the blocks with the numbers ``swapped``, ascending, of ``blocks``; their weights come from main memory."""

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        swapped: Sequence[int],
        device: torch.device,
        copies: DirectCopies | None = None,
    ) -> None:
        on_gpu = device.type == "cuda"
        self.device = device
        self.copies = copies or (StreamCopies(device) if on_gpu else DirectCopies())
        self.hosts = [HostWeights(blocks[index], on_gpu) for index in swapped]
        self._places = {index: place for place, index in enumerate(swapped)}
        self._slots: list[Slot] = []
        self._last = -1

    def around(self, index: int, run: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """``run`` of a block, after its weights have been brought to the device; unchanged if it is not swapped."""
        place = self._places.get(index)
        if place is None:
            return run

        def with_weights(*args: Any, **kwargs: Any) -> Tensor:
            self._bring(place)
            return run(*args, **kwargs)

        return with_weights

    def leave(self) -> None:
        """Give the device's memory back; the next block that runs takes it again."""
        for slot in self._slots:
            if slot.holds >= 0:
                self.copies.wait(slot.copy)
                self.hosts[slot.holds].use(self.hosts[slot.holds].buffer)
        self._slots = []

    def _bring(self, place: int) -> None:
        slot = self._slot_of(place) or self._fetch(place, self._last)
        self.copies.wait(slot.copy)
        self.hosts[place].use(slot.buffer[: self.hosts[place].buffer.nbytes])
        following = self._following(place)
        if self._slot_of(following) is None:
            self._fetch(following, place)
        self._last = place

    def _following(self, place: int) -> int:
        """The place of the block that is brought next, where it can be known: a wrong guess costs time alone."""
        last = len(self.hosts) - 1
        if place == last and not torch.is_grad_enabled():
            return 0
        forward = place > self._last or place == 0
        return min(place + 1, last) if forward else place - 1

    def _slot_of(self, place: int) -> Slot | None:
        return next((slot for slot in self._slots if slot.holds == place), None)

    def _fetch(self, place: int, needed: int) -> Slot:
        """Start to copy the weights of ``place`` over those of any but ``needed``."""
        if not self._slots:
            size = max(host.buffer.nbytes for host in self.hosts)
            self._slots = [
                Slot(torch.empty(size, dtype=torch.uint8, device=self.device))
                for _ in range(min(SLOTS, len(self.hosts)))
            ]
        slot = next((slot for slot in self._slots if slot.holds != needed), self._slots[0])
        if slot.holds >= 0:
            self.hosts[slot.holds].use(self.hosts[slot.holds].buffer)
        host = self.hosts[place]
        slot.holds = place
        slot.copy = self.copies.start(slot.buffer[: host.buffer.nbytes], host.buffer)
        return slot
