"""Captions: the text file beside a clip, or the rows of ``metadata.csv`` / ``metadata.jsonl``."""

import codecs
import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

from ..storage.json_text import parse_json
from .files import exists

NESTED = ("", "train", "videos")  # sub-folders of the metadata's file names; "train" as in Pusa's released data set
OUTSIDE = "data.allow_outside"  # the option that a message about such a file name proposes

# UTF-32 first: its little-endian mark starts with that of UTF-16
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}

FILE_COLUMNS = ("file_name", "video_path", "video", "image_path")
CAPTION_COLUMNS = ("text", "caption", "prompt")
"""As Hugging Face's data sets, musubi-tuner and DiffSynth-Studio spell them; the first that has a value is taken."""

Row = tuple[int, dict[str, Any]]  # line number, values by column


def read_text(path: Path) -> str:
    """A text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises ``ValueError``, without the file's name, for any other encoding.
    """
    content = path.read_bytes()
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    if "\0" in text:  # UTF-16 without a mark, or no text at all
        raise ValueError("is not UTF-8 (it holds NUL characters); save it as UTF-8")
    return text


def read_caption(path: Path) -> str:
    """The text file beside a clip; empty without one. Raises ``ValueError`` with the reason to skip the clip."""
    if not exists(path, Path.is_file):
        return ""
    try:
        return read_text(path)
    except ValueError as error:
        raise ValueError(f"caption {error}") from error


def read_metadata(folder: Path, allow_outside: bool = False) -> Iterator[tuple[Path, str]] | None:
    """Path and caption of each clip that ``metadata.csv`` or ``metadata.jsonl`` lists; None without such a file.

    Raises ``ValueError`` naming the file, and the line where there is one.
    """
    for name, rows in (("metadata.csv", _csv_rows), ("metadata.jsonl", _jsonl_rows)):
        if (folder / name).is_file():
            return iter([_clip(folder, name, row, allow_outside) for row in _read(folder / name, rows)])
    return None


def _read(path: Path, rows: Any) -> list[Row]:
    try:
        text = read_text(path)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}); make it readable") from error
    try:
        return list(rows(text))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read ({error}); correct that line") from error


def _csv_rows(text: str) -> Iterator[Row]:
    # strict: a quote that is never closed would take the rest of the file for one caption
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    try:
        for row in reader:
            if "" in row and isinstance(row[""], list):
                raise ValueError(
                    f"line {reader.line_num} has more values than the first line has columns, the last is "
                    f"{_short(row[''][-1])}; put a text with commas in double quotes"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


def _jsonl_rows(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not a JSON object: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is {_kind(row)}, not a JSON object such as {_EXAMPLE}")
        yield number, row


_EXAMPLE = '{"file_name": "cat.mp4", "text": "a cat"}'


def _clip(folder: Path, metadata: str, row: Row, allow_outside: bool) -> tuple[Path, str]:
    line, values = row
    where = f"{folder / metadata}: line {line}"
    file_column, name = _first(values, FILE_COLUMNS)
    text_column, text = _first(values, CAPTION_COLUMNS)
    if name in (None, ""):
        raise ValueError(f"{where} has no file_name, but {_short(values)}; a row needs file_name and text")
    for column, value in ((file_column, name), (text_column, text)):
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{where}: {column} is {_kind(value)}, {_short(value)}; it must be a text")
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(f"{where}: {column} holds half of a character, {_short(value)}; write it as UTF-8")
    if not allow_outside and _leads_outside(name):
        raise ValueError(
            f'{where}: {file_column} "{_cut(name)}" leads out of the folder of clips; move the clip there, or '
            f"set {OUTSIDE} to true"
        )
    return _locate(folder, name), text or ""


def _first(values: dict[str, Any], columns: tuple[str, ...]) -> tuple[str, Any]:
    """The first of the columns that has a value, and that value."""
    column = next((column for column in columns if values.get(column) not in (None, "")), columns[0])
    return column, values.get(column)


def _leads_outside(name: str) -> bool:
    """By the name alone, in the spelling of any system: a link inside the folder is its owner's own."""
    parts = os.path.normpath(name.replace("\\", "/")).replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or bool(PureWindowsPath(name).drive) or parts[0] == ".."


def _locate(folder: Path, name: str) -> Path:
    places = [folder / nested / name for nested in NESTED]
    return next((place for place in places if exists(place, Path.is_file)), places[0])


def _kind(value: Any) -> str:
    """A JSON value's type in words."""
    names = {list: "a list", dict: "an object", bool: "true or false", type(None): "null", str: "a text"}
    return names.get(type(value), "a number")


def _short(value: Any) -> str:
    return _cut(repr(value))


def _cut(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."
