"""Writes ``locales/`` and ``web/docs/*/``, the nodes' texts and help in other languages, from a catalogue per language.

``python -m tools.translate`` writes the files. ``--english`` first reads the English texts from the nodes themselves,
in a ComfyUI; ``--missing`` lists what a catalogue lacks and what it no longer needs.

A catalogue (``tools/translations/zh.json``) maps English texts to translations, so that one of an English text that has
changed counts as missing and can never be shown. Of a help page, ``web/docs/PusaLoad.md``, every line is a text.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tools.comfy_client import ComfyClient
from tools.comfyui import PACK, find_comfyui, temporary_server

Json = dict[str, Any]

CATALOGUES = Path(__file__).with_name("translations")
ENGLISH = CATALOGUES / "english.json"
LOCALES = PACK / "locales"
HELP = PACK / "web" / "docs"
LANGUAGES = ("zh", "ja", "ko", "de", "fr", "es")


def english_texts(info: Json) -> Json:
    """The texts of this pack's nodes in ``/object_info``, in the form of ComfyUI's ``nodeDefs.json``."""
    return {name: _node_texts(node) for name, node in sorted(info.items()) if node["category"].startswith("Pusa")}


def _node_texts(node: Json) -> Json:
    specs = {key: spec[1] for need in ("required", "optional") for key, spec in node["input"].get(need, {}).items()}
    return {
        "display_name": node["display_name"],
        "description": node["description"],
        "inputs": {key: {"name": spec["display_name"], "tooltip": spec["tooltip"]} for key, spec in specs.items()},
        "outputs": {str(index): {"tooltip": text} for index, text in enumerate(node["output_tooltips"])},
    }


def translated(texts: Any, translate: Callable[[str], str]) -> Any:
    """``texts`` with every string in it translated."""
    if isinstance(texts, str):
        return translate(texts)
    return {key: translated(value, translate) for key, value in texts.items()}


def strings(texts: Any) -> Iterator[str]:
    """Every string in ``texts``."""
    if isinstance(texts, str):
        yield texts
    else:
        for value in texts.values():
            yield from strings(value)


def help_lines() -> dict[str, list[str]]:
    """The lines of every help page in English, by the node's id."""
    return {page.stem: page.read_text(encoding="utf-8").splitlines() for page in sorted(HELP.glob("*.md"))}


def is_text(line: str) -> bool:
    """Whether there is something to translate in a line, which a table's rule and a picture have not."""
    return any(character.isalpha() for character in re.sub(r"!\[\]\(\S+\)", "", line))


def needed(english: Json) -> list[str]:
    """The texts to translate, in order, each once: of the nodes, their categories and their help pages."""
    pages = [line for lines in help_lines().values() for line in lines if is_text(line)]
    return list(dict.fromkeys([*strings(english), *CATEGORIES, *pages]))


CATEGORIES = ("training", "analysis", "demo")
"""Parts of the categories in the node menu; "Pusa" is a name."""


def read(path: Path) -> Json:
    return json.loads(path.read_text(encoding="utf-8"))


def documents() -> dict[str, str]:
    """The files in other languages by their paths in the pack. Raises ``KeyError`` for a text without translation."""
    english, files = read(ENGLISH), {}
    for language in LANGUAGES:
        catalogue = read(CATALOGUES / f"{language}.json")
        files[f"locales/{language}/nodeDefs.json"] = dump(translated(english, catalogue.__getitem__))
        categories = {each: catalogue[each] for each in CATEGORIES}
        files[f"locales/{language}/main.json"] = dump({"nodeCategories": categories})
        for node, lines in help_lines().items():
            page = "".join(f"{catalogue[line] if is_text(line) else line}\n" for line in lines)
            files[f"web/docs/{node}/{language}.md"] = page
    return files


def dump(document: Json) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def problems(language: str) -> list[str]:
    """What is wrong with a language's catalogue, a line for each text."""
    texts, catalogue = needed(read(ENGLISH)), read(CATALOGUES / f"{language}.json")
    missing = [f"{language} lacks: {text}" for text in texts if not catalogue.get(text)]
    return missing + [f"{language} no longer needs: {text}" for text in catalogue if text not in texts]


def write_english() -> None:
    comfyui = find_comfyui()
    if comfyui is None:
        raise SystemExit("no ComfyUI found: set COMFYUI_PATH to a checkout")
    with temporary_server(comfyui) as url:
        ENGLISH.write_text(dump(english_texts(ComfyClient(url).get_json("/object_info"))), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.translate", description=__doc__)
    parser.add_argument("--english", action="store_true", help="read the English texts from the nodes first")
    parser.add_argument("--missing", action="store_true", help="only list what catalogues lack or no longer need")
    args = parser.parse_args()
    if args.english:
        write_english()
    if found := [line for language in LANGUAGES for line in problems(language)]:
        sys.exit("\n".join(found))
    if not args.missing:
        for name, text in documents().items():
            path = PACK / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
