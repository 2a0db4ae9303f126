"""An option of the training command: everything that is known of it stands in the metadata of its dataclass field.

The flag and its help, the TOML key, the check of the value and the input of the node are all derived from there.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
REQUIRED: Any = MISSING  # what dataclasses take for "no default"


@dataclass(frozen=True)
class NodeInput:
    """An option as an input of Pusa Train LoRA.

    ``place`` counts all inputs of the node, also those that are no option. A stored graph holds its values by place,
    so a published place never changes, and a new input takes the next number.

    ``name``: of the input, where it is not the option's. ``basic``: always visible, not only under "advanced".
    ``step`` and ``max`` are the widget's: its step (1, or 0.01 for a float), and its largest value where the option
    itself has no upper limit.
    """

    place: int
    name: str = ""
    basic: bool = False
    step: float | None = None
    max: float = 1_000_000


@dataclass(frozen=True)
class Option:
    """Help text, range of a number, and input of the node, if it has one.

    ``ge``, ``gt``, ``le``, ``lt``: at least, above, at most, below. ``fix``: what the message about a value outside of
    the range proposes, where that says more than the range.
    """

    help: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    fix: str = ""
    node: NodeInput | None = None

    def allows(self, value: Any) -> bool:
        bounds = (self.ge, self.gt, self.le, self.lt)
        if all(bound is None for bound in bounds):
            return True
        return (
            -math.inf < value < math.inf
            and (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    @property
    def limits(self) -> str:
        """The range in words; empty without one."""
        high = f"{self.le:g}" if self.le is not None else f"below {self.lt:g}" if self.lt is not None else ""
        if self.ge is not None:
            return f"{self.ge:g} to {high}" if high else f"at least {self.ge:g}"
        if self.gt is not None:
            return f"above {self.gt:g} to {high}" if high else f"above {self.gt:g}"
        return high if self.le is None else f"at most {high}"


def option(
    text: str,
    *,
    default: T = REQUIRED,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    fix: str = "",
    node: NodeInput | None = None,
) -> T:
    """A dataclass field of an option; without ``default`` it has to be given."""
    known = Option(text, ge=ge, gt=gt, le=le, lt=lt, fix=fix, node=node)
    made: Any = field(default=default, metadata={"option": known})
    return made


def about(entry: Field[Any]) -> Option:
    """What :func:`option` was told of a field."""
    return entry.metadata["option"]


def choices(entry: Field[Any]) -> tuple[str, ...]:
    """The values that a text option can have; empty where any will do."""
    return get_args(entry.type) if get_origin(entry.type) is Literal else ()


def usage(entry: Field[Any]) -> str:
    """Help, range and default in one line."""
    facts = [about(entry).limits]
    if entry.default not in (MISSING, "", ()):
        facts.append(f"default: {entry.default if isinstance(entry.default, str) else json.dumps(entry.default)}")
    known = "; ".join(filter(None, facts))
    return f"{about(entry).help} ({known})" if known else about(entry).help


def check_values(section: str, options: "DataclassInstance") -> None:
    """Raise ``ValueError`` for the first value that is none of its option's choices, or outside of its range."""
    for entry in fields(options):
        name, value = f"{section}.{entry.name}", getattr(options, entry.name)
        allowed, known = choices(entry), about(entry)
        if allowed and value not in allowed:
            raise ValueError(f'{name} is "{value}"; choose one of {", ".join(allowed)}')
        if not known.allows(value):
            raise ValueError(f"{name} is {value:g}; use {known.fix or known.limits}")


def node_inputs(options: dict[str, Field[Any]]) -> Iterator[tuple[str, str, NodeInput]]:
    """Input's name, option's name and the rest of every option that is on the node, in the order of their places."""
    on_node = [(name, entry, node) for name, entry in options.items() if (node := about(entry).node) is not None]
    for name, entry, node in sorted(on_node, key=lambda found: found[2].place):
        yield node.name or entry.name, name, node
