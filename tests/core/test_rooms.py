"""The folders are rooms in one order: imports point one way, and each kind of library stays in its room."""

import ast
from pathlib import Path

import pytest

from benchmarks.structure import ENTRY_POINTS, ROOMS, imported_modules, source_files
from tools.comfyui import PACK

FILES = source_files(PACK)
COMFYUI = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "execution", "server"}
PUBLIC = {"comfy_api", "folder_paths"}  # of ComfyUI: what node packs are meant to use


def imported_packages(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse((PACK / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_import_goes_back_up(path):
    if path.name in ENTRY_POINTS:
        return
    room = ROOMS.index(str(path.parent))
    later = [str(target) for target in imported_modules(path, PACK) if ROOMS.index(str(target.parent)) > room]
    assert not later


def test_every_room_is_in_the_order():
    assert {str(path.parent) for path in FILES} == set(ROOMS)


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "pusa_core"], ids=str)
def test_pusa_core_never_imports_comfyui_nor_itself_by_name(path):
    packages = imported_packages(path)
    assert not packages & (COMFYUI | {"nodes"})
    assert "pusa_core" not in packages  # inside ComfyUI it is a sub-package of a folder of unknown name


@pytest.mark.parametrize("path", [path for path in FILES if path.parent == Path("nodes")], ids=str)
def test_comfyui_internals_stay_in_their_room(path):
    assert not imported_packages(path) & (COMFYUI - PUBLIC)


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "pusa_core"], ids=str)
def test_flags_stay_in_the_command_line(path):
    assert ("argparse" in imported_packages(path)) <= (path.parent == Path("pusa_core/cli"))
