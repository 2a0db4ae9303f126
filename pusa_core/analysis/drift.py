"""Parameter drift: how far fine-tuning has moved a model (Pusa, arXiv 2507.16116, fig. 5).

The paper does not define its "relative change". Here it is ``||dW|| / ||W||`` in Frobenius norm, of one parameter or
of a group taken together.
"""

import csv
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

from torch import Tensor

from ..storage.atomic import write_whole
from ..weights.checkpoints import names_in_file, read_checkpoint
from ..weights.files import check_finite, read_file, read_tensor, shard_paths
from ..weights.lora import Lora, LoraLayer, match_lora
from ..weights.quantised import dequantise

Progress = Callable[[int, int], None]
Paths = str | PathLike | Iterable[str | PathLike]
CHUNK = 1 << 18  # elements converted to fp32 and fp64 at a time

_COMPONENTS = {
    r"blocks\.\d+\.(self|cross)_attn\.([qkvo])\..+": r"\1-attention \2",
    r"blocks\.\d+\.ffn\.\d+\..+": "feed-forward",
    r"blocks\.\d+\.(self|cross)_attn\.norm_[qk]\..+|blocks\.\d+\.norm3\..+": "norms",
    r"blocks\.\d+\.modulation": "modulation",
    r"(text|time)_embedding\..+": r"\1 embedding",
    r"time_projection\..+": "time projection",
    r"patch_embedding\..+": "patch embedding",
    r"head\..+": "head",
}
_BLOCK = re.compile(r"blocks\.(\d+)\.")


@dataclass(frozen=True)
class Change:
    """A parameter under its original name, with the Frobenius norms of its old value and of its change."""

    name: str
    elements: int
    norm: float
    change: float

    @property
    def relative(self) -> float:
        return relative_change([self])

    @property
    def component(self) -> str:
        """The kind of layer, whichever the block: "self-attention q", "feed-forward", "head" ..."""
        matches = ((re.fullmatch(pattern, self.name), text) for pattern, text in _COMPONENTS.items())
        return next(match.expand(text) for match, text in matches if match)

    @property
    def block(self) -> int | None:
        match = _BLOCK.match(self.name)
        return int(match[1]) if match else None


def relative_change(changes: Iterable[Change]) -> float:
    """``||dW|| / ||W||`` of all parameters together; 0 without a change, infinite for a change from zero."""
    changes = list(changes)
    change = math.hypot(*(each.change for each in changes))
    norm = math.hypot(*(each.norm for each in changes))
    return change / norm if norm else math.inf if change else 0.0


class WeightReader:
    """Reads the weights of a Wan checkpoint one at a time; memory is freed, and unmapped, between reads."""

    def __init__(self, path: Paths) -> None:
        paths = shard_paths(path)
        checkpoint = read_checkpoint(paths)  # memory-mapped: no weight is read yet
        self.source = checkpoint.source
        self.shapes = {name: tuple(weight.shape) for name, weight in checkpoint.weights.items()}
        self._quantised = checkpoint.quantised
        shards = {theirs: shard for shard in paths for theirs in read_file(shard)[0]}
        self._places = {ours: (shards[theirs], theirs) for ours, theirs in names_in_file(shards, self.source).items()}

    def read(self, name: str) -> Tensor:
        """A parameter under its original name, dequantised. Raises ``ValueError`` for NaN or infinity."""
        layer = self._quantised.get(name.removesuffix(".weight"))
        value = dequantise(read_tensor(*self._places[name]), layer, name, self.source)
        check_finite(value, name, self.source)
        return value


def _silent(done: int, total: int) -> None: ...


def checkpoint_drift(base: Paths, other: Paths, report: Progress = _silent) -> list[Change]:
    """The change of every parameter between two Wan text-to-video checkpoints of any format.

    Reads one tensor of each at a time and calls ``report(done, total)`` after each.

    Raises ``ValueError`` for files of other models, or of two sizes.
    """
    before, after = WeightReader(base), WeightReader(other)
    for name, shape in before.shapes.items():
        if after.shapes.get(name) != shape:
            raise ValueError(
                f"{name} is {shape} in {before.source} and {after.shapes.get(name)} in "
                f"{after.source}; compare two checkpoints of one size"
            )
    return _each(before, lambda name, weight: _difference(name, weight, after.read(name)), report)


def lora_drift(base: Paths, lora: Lora, strength: float, report: Progress = _silent) -> list[Change]:
    """The change that ``lora`` at ``strength`` makes to every parameter of a Wan text-to-video checkpoint.

    The update of a layer is never materialised: its norm follows from the factors. ``report`` as in
    :func:`checkpoint_drift`.

    Raises ``ValueError`` when the LoRA does not fit.
    """
    reader = WeightReader(base)
    match = match_lora(lora, reader.shapes)
    return _each(reader, lambda name, weight: _lora_change(name, weight, match.layers, match.diffs, strength), report)


def _each(reader: WeightReader, change_of: Callable[[str, Tensor], Change], report: Progress) -> list[Change]:
    changes = []
    for name in reader.shapes:
        changes.append(change_of(name, reader.read(name)))
        report(len(changes), len(reader.shapes))
    return changes


def _difference(name: str, before: Tensor, after: Tensor) -> Change:
    change = _norm(before.numel(), lambda part: after.flatten()[part].float() - before.flatten()[part].float())
    return Change(name, before.numel(), _norm_of(before), change)


def _lora_change(
    name: str, weight: Tensor, layers: Mapping[str, LoraLayer], diffs: Mapping[str, Tensor], strength: float
) -> Change:
    layer, diff = layers.get(name.removesuffix(".weight")), diffs.get(name)
    if layer is not None and diff is not None:
        raise ValueError(f"the LoRA changes {name} twice, by factors and by a difference; pick another")
    change = 0.0
    if layer is not None:
        change = abs(layer.scale) * product_norm(layer)
    elif diff is not None:
        change = _norm_of(diff)
    return Change(name, weight.numel(), _norm_of(weight), abs(strength) * change)


def product_norm(layer: LoraLayer) -> float:
    """``||up @ down||`` from two rank x rank matrices: ``||B A||^2 = sum((B^T B) * (A A^T))``."""
    up, down = layer.up.flatten(1).double(), layer.down.flatten(1).double()
    return math.sqrt(max(0.0, ((up.T @ up) * (down @ down.T)).sum().item()))


def _norm_of(tensor: Tensor) -> float:
    return _norm(tensor.numel(), lambda part: tensor.flatten()[part].float())


def _norm(elements: int, values: Callable[[slice], Tensor]) -> float:
    """The Frobenius norm of ``elements`` values, in chunks."""
    total = 0.0
    for start in range(0, elements, CHUNK):
        total += values(slice(start, start + CHUNK)).double().square().sum().item()
    return math.sqrt(total)


def by_component(changes: Iterable[Change]) -> list[tuple[str, float]]:
    """The relative change of every component, in order of first appearance."""
    return _grouped(changes, lambda change: change.component)


def by_block(changes: Iterable[Change]) -> list[tuple[str, float]]:
    """The relative change of every block, its parameters taken together."""
    inside = [change for change in changes if change.block is not None]
    return _grouped(inside, lambda change: str(change.block))


def most_changed(changes: Iterable[Change], count: int = 20) -> list[tuple[str, float]]:
    """The parameters with the largest relative change."""
    ranked = sorted(changes, key=lambda change: change.relative, reverse=True)
    return [(change.name, change.relative) for change in ranked[:count]]


def _grouped(changes: Iterable[Change], group_of: Callable[[Change], str]) -> list[tuple[str, float]]:
    groups: dict[str, list[Change]] = {}
    for change in changes:
        groups.setdefault(group_of(change), []).append(change)
    return [(group, relative_change(members)) for group, members in groups.items()]


def save_table(changes: Iterable[Change], path: str | PathLike) -> None:
    """One CSV row per parameter, norms included, so that other groups can be formed.

    Raises :class:`pusa_core.storage.atomic.SaveError`.
    """
    write_whole(path, partial(_write_table, changes))


def _write_table(changes: Iterable[Change], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["parameter", "component", "block", "elements", "norm", "change", "relative"])
        for each in changes:
            block = "" if each.block is None else each.block
            numbers = (f"{number:.8g}" for number in (each.norm, each.change, each.relative))
            writer.writerow([each.name, each.component, block, each.elements, *numbers])
