"""Type-checks the repository: ``python -m tools.check_types``.

The nodes import the engine as ``..pusa_core``, because in ComfyUI this folder is a package with an arbitrary name. mypy
resolves that only in a package whose name is an identifier, unlike the folder of a clone (``ComfyUI-Pusa``). So mypy
runs twice: in place on everything else, and on the nodes in a copy of the pack named ``pack``.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = Path(".mypy_cache", "as_package")  # fixed path, so that mypy's cache stays valid
PACKAGE = "pack"
PARTS = ("nodes", "pusa_core", "demo")


def copy_pack(root: Path, target: Path) -> None:
    """Copy the pack's Python files with their modification times, on which mypy's cache depends."""
    shutil.rmtree(target, ignore_errors=True)
    for path in (root / "__init__.py", *(file for part in PARTS for file in (root / part).rglob("*.py"))):
        copy = target / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def mypy(root: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run mypy with the options of ``pyproject.toml``; returns its exit code and output."""
    command = [sys.executable, "-m", "mypy", *arguments]
    done = subprocess.run(command, cwd=root, env={**os.environ, **environment}, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def check_types(root: Path) -> tuple[int, str]:
    """Check the repository at ``root``; returns the exit code (0: no errors) and mypy's output."""
    copy_pack(root, root / COPY / PACKAGE)
    in_place = mypy(root)
    # silent: errors in pusa_core and demo are already reported in place
    as_package = mypy(
        root, "--follow-imports=silent", "-m", PACKAGE, "-p", f"{PACKAGE}.nodes", MYPYPATH=str(root / COPY)
    )
    text = in_place[1] + as_package[1].replace(f"{COPY / PACKAGE}{os.sep}", "")
    return max(in_place[0], as_package[0]), text


def main() -> int:
    code, text = check_types(ROOT)
    sys.stdout.write(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
