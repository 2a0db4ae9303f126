"""pusa_core must be usable without ComfyUI."""

import ast
from pathlib import Path

import pytest

import pusa_core

HOST_MODULES = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "nodes", "folder_paths", "execution", "server"}
FILES = sorted(Path(pusa_core.__file__).parent.rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_pusa_core_never_imports_comfyui_nor_itself_by_name(path):
    names = imported(ast.parse(path.read_text(encoding="utf-8")))
    assert not names & HOST_MODULES
    assert "pusa_core" not in names  # inside ComfyUI it is a sub-package of a folder of unknown name
