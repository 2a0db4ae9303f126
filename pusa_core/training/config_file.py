"""Training options: parsing of TOML files and flags, and serialisation to TOML."""

import contextlib
import difflib
import json
import math
import sys
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict
from pathlib import Path
from typing import Any

from ..storage.json_text import parse_json
from .config import SECTIONS, Config, option_fields
from .files import exists
from .options import about


def read_config(path: Path | None, overrides: Mapping[str, str]) -> Config:
    """The options of a TOML file, with ``overrides`` (``"train.steps" -> "100"``).

    Raises:
        FileNotFoundError: no such file, here or in an option.
        ValueError: not TOML, an unknown option, or a value that makes no sense; the message names it.
    """
    return parse_config({} if path is None else _read_toml(path), overrides)


def parse_config(sections: Mapping[str, Any], overrides: Mapping[str, str]) -> Config:
    """The options in ``sections`` (``{"train": {"steps": 100}}``), with ``overrides``."""
    options: dict[str, Any] = {}
    for section, values in sections.items():
        _known(section, list(SECTIONS), f"section [{section}]")
        if not isinstance(values, Mapping):
            raise ValueError(f"{section} is {values!r}; it is a section: write [{section}] and its options below")
        options |= {f"{section}.{name}": value for name, value in values.items()}
    options |= overrides
    kinds = option_fields()
    for name in options:
        _known(name, list(kinds), f"option {name}")
    chosen: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name, spec in kinds.items():
        section, _, key = name.partition(".")
        if name in options:
            chosen[section][key] = _convert(name, options[name], spec.type)
        elif spec.default is MISSING:
            raise ValueError(f"{name} is not set; it is {about(spec).help}")
    return Config(**{section: SECTIONS[section](**values) for section, values in chosen.items()})


def to_toml(config: Config) -> str:
    """All options as TOML."""
    parts = []
    for section, values in asdict(config).items():
        parts.append(f"[{section}]")
        parts += [f"{name} = {_toml_value(value)}" for name, value in values.items()]
        parts.append("")
    return "\n".join(parts)


def _toml_value(value: Any) -> str:
    """JSON's strings, numbers, booleans and lists are TOML's too, but that TOML escapes one character more."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_toml_value(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _read_toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:  # not needed by a run whose options are all flags, as in ComfyUI
        import tomli as tomllib

    if not exists(path, Path.is_file):
        raise FileNotFoundError(f"no such file: {path}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not TOML ({error}); correct that line") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}); make it readable") from error


def _known(name: str, names: list[str], what: str) -> None:
    if name in names:
        return
    tails, tail = {known.rpartition(".")[2]: known for known in names}, name.rpartition(".")[2]
    near = [tail] if tail in tails else difflib.get_close_matches(tail, list(tails), 1)
    near = [tails[found] for found in near] or difflib.get_close_matches(name, names, 1)
    raise ValueError(f"unknown {what}; " + (f"do you mean {near[0]}?" if near else f"there are {', '.join(names)}"))


def _convert(name: str, value: Any, kind: Any) -> Any:
    """``value`` as the type of its option; a flag's text is read as JSON where the option is no text."""
    if isinstance(value, str) and not _is_text(kind):
        # a text where a list of texts is wanted is one element; anything else is refused below
        with contextlib.suppress(ValueError):
            value = parse_json(value)
    if typing.is_typeddict(table := next(iter(typing.get_args(kind)), None)):
        return _tables(name, value, typing.get_type_hints(table))
    try:
        return _cast(value, kind)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {value!r}; it must be {_words(kind)}") from None


def _tables(name: str, value: Any, kinds: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """A list of tables, whose keys have these types."""
    tables = [value] if isinstance(value, Mapping) else value
    if not isinstance(tables, (list, tuple)) or not all(isinstance(table, Mapping) for table in tables):
        raise ValueError(f"{name} is {value!r}; it must be a list of tables: write [[{name}]] and its options below")
    for number, table in enumerate(tables):
        for key in table:
            _known(key, list(kinds), f"option {key} of {name}[{number}]")
    return tuple(
        {key: _convert(f"{name}[{number}].{key}", entry, kinds[key]) for key, entry in table.items()}
        for number, table in enumerate(tables)
    )


def _is_text(kind: Any) -> bool:
    return kind is str or typing.get_origin(kind) is typing.Literal


def _cast(value: Any, kind: Any) -> Any:
    if _is_text(kind):
        if not isinstance(value, str):
            raise TypeError
        return value
    if kind is bool:
        if not isinstance(value, bool):
            raise TypeError
        return value
    if kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or kind(value) != value:
            raise TypeError
        if not math.isfinite(value):
            raise ValueError
        return kind(value)
    inner = typing.get_args(kind)[0]  # every other option is a tuple of one type
    if isinstance(value, str) and inner is str:
        return (value,)
    if not isinstance(value, (list, tuple)):
        raise TypeError
    return tuple(_cast(item, inner) for item in value)


def _words(kind: Any) -> str:
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(kind, "a list, such as [[832, 480]] or [0.9, 0.999]")
