"""The nodes' texts are translated completely, and every translation belongs to the English text as it is now."""

import json
import re

import pytest

from tools import translate
from tools.comfyui import PACK
from tools.translate import CATALOGUES, HELP, LANGUAGES, LOCALES, documents, needed, problems, read, strings

ENGLISH = read(translate.ENGLISH)
VERBATIM = re.compile(
    r"models/[a-z_]+|\.safetensors|\.csv|\.npz|clip\.mp4|clip\.txt|\d+:0\.\d|p69-80|fp8|umt5-xxl|Wan2\.[12]"
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_missing_and_nothing_is_stale(language):
    assert problems(language) == []


def test_the_files_are_up_to_date():
    files = [*LOCALES.rglob("*.json"), *HELP.glob("*/*.md")]
    stored = {path.relative_to(PACK).as_posix(): path.read_text(encoding="utf-8") for path in files}
    assert stored == documents(), "run python -m tools.translate"


@pytest.mark.parametrize("language", LANGUAGES)
def test_file_names_and_values_stay_as_they_are(language):
    catalogue = read(CATALOGUES / f"{language}.json")
    for text, translation in catalogue.items():
        assert sorted(VERBATIM.findall(text)) == sorted(VERBATIM.findall(translation)), text


def test_a_translation_of_a_text_that_has_changed_is_stale(monkeypatch, tmp_path):
    for language in LANGUAGES:
        (tmp_path / f"{language}.json").write_text(
            (CATALOGUES / f"{language}.json").read_text(encoding="utf-8"), encoding="utf-8"
        )
    changed = json.loads(json.dumps(ENGLISH))
    changed["PusaLoad"]["description"] += " And more."
    (tmp_path / "english.json").write_text(json.dumps(changed), encoding="utf-8")
    monkeypatch.setattr(translate, "CATALOGUES", tmp_path)
    monkeypatch.setattr(translate, "ENGLISH", tmp_path / "english.json")
    text = ENGLISH["PusaLoad"]["description"]
    assert problems("de") == [f"de lacks: {text} And more.", f"de no longer needs: {text}"]


def test_every_node_has_a_text_for_every_part():
    assert all(text.strip() for text in strings(ENGLISH))
    assert len(needed(ENGLISH)) == len(set(needed(ENGLISH)))
