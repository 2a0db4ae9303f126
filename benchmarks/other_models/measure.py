"""Runs the measurements in a ComfyUI, and draws them up as a table."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.comfyui import python_of

SCRIPT = Path(__file__).with_name("run.py")
Report = dict[str, dict[str, Any]]
"""By name of the kind of model, what :mod:`.run` prints of it."""

HEAD = (
    "model",
    "worst sampler",
    "ComfyUI's own mask",
    "level 0 keeps its bits",
    "a frame against itself alone",
    "equal levels against ComfyUI at that level",
)


def measure(comfyui: Path, *names: str) -> Report:
    """The measurements of all kinds of models, or of those with these ``names``, in ComfyUI's own Python."""
    command = [python_of(comfyui), str(SCRIPT), *names]
    done = subprocess.run(command, cwd=comfyui, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{SCRIPT.name} failed in {comfyui}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def version_of(comfyui: Path) -> str:
    """ComfyUI's version, as its own file says it."""
    text = (comfyui / "comfyui_version.py").read_text(encoding="utf-8")
    return text.partition('"')[2].partition('"')[0]


def cells(found: dict[str, Any]) -> list[str]:
    if "missing" in found:
        return ["not in this version", *[""] * 4]
    if "refused" in found:
        return ["refused: one time for all frames", *[""] * 4]
    name, error = max(found["error"].items(), key=lambda entry: entry[1])
    core = max(found["core"][1:-1])
    kept = "all" if found["kept"] else "no"
    return [f"{error:.0e} ({name})", f"{core:.3f}", kept, f"{found['alone']:.0e}", f"{found['equal']:.0e}"]


def table(reports: Sequence[tuple[str, Report]]) -> str:
    """The measurements of ``reports``, each with the version of ComfyUI, as a table in Markdown."""
    lines = []
    for version, report in reports:
        lines += [f"ComfyUI {version}:", "", *(row(HEAD), row(["---"] * len(HEAD)))]
        lines += [row([name, *cells(found)]) for name, found in report.items()]
        lines.append("")
    return "\n".join(lines).rstrip()


def row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(texts) + " |"
