"""Networks that are trained in turns."""

from dataclasses import dataclass

from .objective import NoiseRange


@dataclass(frozen=True)
class Turns:
    """``every`` steps with the first network, as many with the next, and so on; ``ranges``: the noise range of each."""

    ranges: tuple[NoiseRange, ...]
    every: int = 1

    def of(self, step: int) -> int:
        """The network of a step, counted from 0."""
        return step // self.every % len(self.ranges)

    def before(self, step: int, network: int) -> int:
        """How many of the steps before ``step`` are the network's own."""
        rounds, rest = divmod(step, self.every * len(self.ranges))
        return rounds * self.every + min(max(rest - network * self.every, 0), self.every)
