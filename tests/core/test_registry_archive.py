"""The archive that ``comfy node publish`` makes of git's files without those in ``.comfyignore``."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from tests.support.patience import HANGS
from tools.comfyui import PACK

LARGEST = 24 << 20  # bytes; the demo model alone takes 19 MiB
CODE = ("nodes", "pusa_core", "demo")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def git(*arguments: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", "-z", *arguments], cwd=PACK, capture_output=True, text=True, check=True)
    return set(filter(None, listed.stdout.split("\0")))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("git") is None or not (PACK / ".git").exists():
        pytest.skip("the archive is made of what git tracks, and this is no clone")
    path = tmp_path_factory.mktemp("archive") / "node.zip"
    kept = git() - git("--cached", "--ignored", "--exclude-from=.comfyignore")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in sorted(kept):
            file.write(PACK / name, name)
    return path


@pytest.fixture(scope="module")
def installed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("custom_nodes") / "ComfyUI-Pusa"
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return folder


def modules(folder: Path) -> set[str]:
    """Dotted names of the pack's modules; its root is the empty name."""
    paths = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py"))
    return {".".join(path.parts[:-1] if path.name == "__init__" else path.parts) for path in paths}


def own_imports(path: PurePosixPath, text: str) -> set[str]:
    """Dotted names of the modules of the pack that a file imports, all imports within functions included."""
    package = path.parent.parts
    found = set()
    for statement in ast.walk(ast.parse(text)):
        if isinstance(statement, ast.ImportFrom):
            module = statement.module.split(".") if statement.module else []
            base = [*package[: len(package) + 1 - statement.level], *module] if statement.level else module
            # a name that is imported from a package may be a module of it
            found |= {".".join(base)} | {".".join([*base, name.name]) for name in statement.names}
        elif isinstance(statement, ast.Import):
            found |= {name.name for name in statement.names}
    return found


def test_every_module_that_the_pack_imports_is_in_the_archive(installed: Path) -> None:
    everything, kept = modules(PACK), modules(installed)
    missing = {}
    for path in installed.rglob("*.py"):
        name = PurePosixPath(path.relative_to(installed))
        lost = (own_imports(name, path.read_text(encoding="utf-8")) & everything) - kept
        if lost:
            missing[str(name)] = sorted(lost)
    assert {name.split(".")[0] for name in kept} == {"", *CODE, "tools"}
    assert {name for name in kept if name.startswith("tools")} == {"tools.comfy_client"}
    assert not missing


def test_the_engine_and_its_commands_work_from_the_archive(installed: Path) -> None:
    code = (
        "import pusa_core.cli.main, pusa_core.cli.train, demo.inputs, demo.dataset\n"
        "from pusa_core import load_checkpoint, load_lora\n"
        "from pusa_core.weights.demo_files import DIT, LORA, VAE\n"
        "load_checkpoint(DIT), load_lora(LORA), VAE.stat()\n"
        "print(pusa_core.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(installed)!r})\n{code}"],
        cwd=installed.parent,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed)


def test_what_comfyui_and_users_look_for_is_in_the_archive(installed: Path) -> None:
    for name in ("README.md", "LICENSE", "pyproject.toml", "requirements.txt", "configs/train.toml"):
        assert (installed / name).is_file(), name
    for folder in ("web", "locales", "workflows", "workflows/api", "subgraphs", "demo/models"):
        wanted = {path.relative_to(PACK) for path in (PACK / folder).rglob("*") if path.suffix}
        assert {path for path in wanted if not (installed / path).is_file()} == set()


def test_documents_point_to_nothing_that_is_left_out(installed: Path) -> None:
    dead = {}
    for document in installed.rglob("*.md"):
        links = [link for link in LINK.findall(document.read_text(encoding="utf-8")) if "://" not in link]
        # the page looks for the pictures of a help page in another language beside the English one
        folder = document.parents[1] if document.parents[1] == installed / "web" / "docs" else document.parent
        lost = [link for link in links if not (folder / link).exists()]
        if lost:
            dead[str(document.relative_to(installed))] = lost
    assert not dead


def test_the_archive_stays_small(archive: Path) -> None:
    assert archive.stat().st_size < LARGEST
