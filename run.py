"""Try Pusa or run its tests with a single command. Requires only Python 3.10 or newer.

    python run.py demo    generate the image-to-video demo and print the path of the MP4
    python run.py test    linter, type checker and all tests

Everything is installed into ``.venv`` next to this file and reused by later calls. Without an NVIDIA GPU the CPU build
of PyTorch is installed.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
TORCH = "torch==2.13.0"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # for platforms whose default build includes CUDA
EXTRAS = {"demo": "standalone", "test": "standalone,training,test"}
# playwright-core drives Chromium in the browser tests; biome lints web/js, tsc checks its types
NODE_PACKAGES = {"playwright-core": "1.65.1", "@biomejs/biome": "2.6.8", "typescript": "7.0.2"}

TIERS = ["tests/browser", "tests/comfy", "tests/core"]  # the longest files first, so that all processes end together


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def call(*command: str | Path, **kwargs) -> int:
    return subprocess.run([str(part) for part in command], cwd=ROOT, **kwargs).returncode


def pip(*arguments: str) -> None:
    if call(PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *arguments):
        sys.exit(f"installing {' '.join(arguments)} failed; the message above says why")


def torch_index() -> list[str]:
    """pip's index options for PyTorch: the default build with an NVIDIA GPU, otherwise one without CUDA packages."""
    if shutil.which("nvidia-smi"):
        return []
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.json"
        command: list[str | Path] = [PYTHON, "-m", "pip", "install", "--quiet", "--dry-run", "--report", plan, TORCH]
        if call(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) or not plan.exists():
            return ["--index-url", TORCH_CPU_INDEX]
        names = [item["metadata"]["name"] for item in json.loads(plan.read_text(encoding="utf-8"))["install"]]
    return ["--index-url", TORCH_CPU_INDEX] if any(name.startswith("nvidia") for name in names) else []


def set_up(task: str) -> None:
    """Create ``.venv`` and install the dependencies of the task, unless an earlier call has done so."""
    wanted = hashlib.sha256((TORCH + EXTRAS[task] + (ROOT / "pyproject.toml").read_text(encoding="utf-8")).encode())
    marker = VENV / f".installed-{task}"
    if PYTHON.exists() and marker.exists() and marker.read_text() == wanted.hexdigest():
        return
    started = time.monotonic()
    say("setting up .venv (once) ...")
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    pip("--upgrade", "pip")
    pip(TORCH, *torch_index())
    with tempfile.TemporaryDirectory() as folder:
        constraint = Path(folder) / "constraint.txt"
        constraint.write_text(TORCH + "\n")
        pip("--constraint", str(constraint), "--editable", f".[{EXTRAS[task]}]")
    marker.write_text(wanted.hexdigest())
    say(f"set up in {time.monotonic() - started:.0f} s")


def demo(arguments: list[str]) -> int:
    started = time.monotonic()
    code = call(PYTHON, "-m", "tools.first_video", *arguments)
    if not code:
        say(f"done in {time.monotonic() - started:.0f} s")
    return code


def install_node_packages() -> Path | None:
    """Install what the page's JavaScript is checked with; returns its folder, or None without npm."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    folder = VENV / "node"
    modules = folder / "node_modules"
    missing = [f"{name}@{version}" for name, version in NODE_PACKAGES.items() if not (modules / name).exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        call(npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *missing)
    return modules


def side_by_side() -> list[str]:
    """pytest's options for one process per core, each with its own ComfyUI; returns none on a single core.

    The tests compute little and wait much (programs start, pages load), so that two processes of one thread are faster
    than one of two.
    """
    processes = min(4, os.cpu_count() or 1)
    if processes == 1:
        return []
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return ["--numprocesses", str(processes), "--dist", "loadfile", "--no-loadscope-reorder"]


def test(arguments: list[str]) -> int:
    modules = install_node_packages()
    steps: dict[str, list[str | Path]] = {
        "lint": [PYTHON, "-m", "ruff", "check", "."],
        "format": [PYTHON, "-m", "ruff", "format", "--check", "."],
        "types": [PYTHON, "-m", "tools.check_types"],
    }
    if modules is None:
        say("no npm found: the page's JavaScript is not linted, nor are its types checked")
    else:
        suffix = ".cmd" if os.name == "nt" else ""
        steps["lint and format of web/js"] = [modules / ".bin" / f"biome{suffix}", "check"]
        steps["types of web/js"] = [modules / ".bin" / f"tsc{suffix}", "--project", "jsconfig.json"]
        os.environ["NODE_PATH"] = str(modules)
    steps["tests"] = [PYTHON, "-m", "pytest", "-q", "-rs", *side_by_side(), *(arguments or TIERS)]
    failed = []
    for name, command in steps.items():
        say(f"== {name}")
        if call(*command):
            failed.append(name)
    say(f"failed: {', '.join(failed)}" if failed else "all passed")
    return bool(failed)


def main() -> None:
    if sys.version_info < (3, 10):  # noqa: UP036 - the message for older versions
        sys.exit(f"Python {sys.version.split()[0]} is too old; use 3.10 or newer")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("demo", "test"))
    args, rest = parser.parse_known_args()
    set_up(args.task)
    sys.exit({"demo": demo, "test": test}[args.task](rest))


if __name__ == "__main__":
    main()
