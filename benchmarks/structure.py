"""Metrics of the code's structure: ``python -m benchmarks.structure [--root CHECKOUT]``.

A room is a folder with Python files; an edge is an import from one room to another. :data:`ROOMS` is the topological
order of the rooms, which a test enforces.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

ROOMS = (
    "pusa_core/storage",
    "pusa_core/model",
    "pusa_core/weights",
    "pusa_core/media",
    "pusa_core/sampling",
    "pusa_core/film",
    "pusa_core/analysis",
    "pusa_core/training",
    "pusa_core",  # the public API, re-exported from the rooms above
    "pusa_core/cli",
    "demo",
    "demo/training",
    "nodes/comfyui",
    "nodes",
    ".",
    "tools",
    "tools/workflows",
    "benchmarks",
    "benchmarks/demo_model",
    "benchmarks/other_models",
    "benchmarks/study",
    "benchmarks/vbench",
)
"""In dependency order: a file only imports from its own room and the rooms before it."""

ENTRY_POINTS = ("__main__.py",)  # these start commands, which may be in a later room

TRACE = """
import json, os, sys
frames = []
def look(frame, event, _):
    if event == "call" and frame.f_code.co_name == "euler_sample" and not frames:
        while frame is not None:
            frames.append((frame.f_code.co_filename, frame.f_code.co_name))
            frame = frame.f_back
sys.setprofile(look)
try:
    from pusa_core.cli.main import main
except ImportError:
    from pusa_core.cli import main
main(sys.argv[1:])
names = [name for file, name in reversed(frames) if os.sep + "pusa_core" + os.sep in file]
print("HOPS", json.dumps(names[names.index("main"):]))
"""


def source_files(root: Path) -> list[Path]:
    """The tracked Python files, without tests."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=root, capture_output=True, text=True, check=True)
    return [Path(name) for name in listed.stdout.split() if not name.startswith("tests/") and name != "run.py"]


def imported_modules(path: Path, root: Path) -> Iterator[Path]:
    """The repository files that a file imports, relative to ``root``; for a package, its ``__init__.py``."""
    package = path.parent.parts
    for node in ast.walk(ast.parse((root / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            # an imported name may itself be a module
            names = [(*base, alias.name) if _file((*base, alias.name), root) else base for alias in node.names]
        else:
            continue
        yield from (found for name in names if (found := _file(name, root)) is not None)


def _file(module: tuple[str, ...], root: Path) -> Path | None:
    candidates = (Path(*module).with_suffix(".py"), Path(*module, "__init__.py")) if module else (Path("__init__.py"),)
    return next((path for path in candidates if (root / path).is_file()), None)


def edges(root: Path) -> Counter[tuple[str, str]]:
    """The number of imports between each pair of rooms."""
    found: Counter[tuple[str, str]] = Counter()
    for path in source_files(root):
        if path.name not in ENTRY_POINTS:
            for target in imported_modules(path, root):
                if target.parent != path.parent:
                    found[str(path.parent), str(target.parent)] += 1
    return found


def cyclic_edges(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The edges that are part of a cycle."""
    reached = {start: {end for begin, end in pairs if begin == start} for start, _ in pairs}
    for _ in pairs:
        for ends in reached.values():
            ends |= {further for end in ends for further in reached.get(end, ())}
    return {(start, end) for start, end in pairs if start in reached.get(end, ())}


def functions(root: Path) -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in source_files(root):
        for node in ast.walk(ast.parse((root / path).read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield path, node


def argument_count(root: Path, file: str, name: str) -> int:
    """Number of arguments of a function, without self; ``file`` is a file name in any folder."""
    found = (node for path, node in functions(root) if path.name == file and node.name == name)
    node = max(found, key=lambda node: len(node.args.args) + len(node.args.kwonlyargs))
    names = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
    return len(names) - ("self" in names)


def hops(root: Path, out: Path) -> list[str]:
    """The functions of ``pusa_core`` on the call stack when ``generate`` reaches the Euler loop."""
    flags = ["generate", "--prompt", "x", "--frames", "5", "--steps", "1", "--cfg", "1", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", TRACE, *flags, "--out", str(out), "--overwrite"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("HOPS "))
    return json.loads(line.removeprefix("HOPS "))


def report(root: Path, option: str, out: Path) -> str:
    files = source_files(root)
    rooms = Counter(str(path.parent) for path in files)
    found = edges(root)
    lengths = [((node.end_lineno or 0) - node.lineno + 1, f"{path}:{node.name}") for path, node in functions(root)]
    named = [str(path) for path in files if option in (root / path).read_text(encoding="utf-8")]
    stack = hops(root, out)
    return "\n".join(
        [
            f"files per room: {', '.join(f'{room} {count}' for room, count in sorted(rooms.items()))}",
            f"edges between rooms: {len(found)}, in cycles: {len(cyclic_edges(set(found)))}",
            f"longest function: {max(lengths)[0]} lines, {max(lengths)[1]}",
            f"arguments: WanModel.forward {argument_count(root, 'dit.py', 'forward')}, "
            f"euler_sample {argument_count(root, 'sampler.py', 'euler_sample')}",
            f"call depth from the command to the Euler loop: {len(stack)} functions ({' > '.join(stack)})",
            f"files that mention the training option {option}: {len(named)} ({', '.join(named)})",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to analyse (default: this one)")
    parser.add_argument("--option", default="caption_dropout", help="a training option")
    parser.add_argument("--out", type=Path, default=Path("structure.mp4"), help="output of the traced command")
    args = parser.parse_args()
    sys.stdout.write(report(args.root.resolve(), args.option, args.out.resolve()) + "\n")


if __name__ == "__main__":
    main()
