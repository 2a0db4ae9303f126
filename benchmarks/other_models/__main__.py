"""Writes the table of ``docs/other_models.md``: ``python -m benchmarks.other_models --comfyui PATH [--comfyui PATH]``.

Each ComfyUI runs in its own Python, on the CPU. A kind of model that a version lacks is named in its table.
"""

import argparse
from pathlib import Path

from tools.comfyui import PACK, find_comfyui

from .measure import measure, table, version_of

PAGE = PACK / "docs" / "other_models.md"
START, END = "<!-- measured by python -m benchmarks.other_models -->", "<!-- end -->"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.other_models", description=__doc__)
    parser.add_argument("--comfyui", type=Path, action="append", help="a checkout of ComfyUI; repeatable")
    args = parser.parse_args()
    places = args.comfyui or [find_comfyui()]
    if None in places:
        raise SystemExit("no ComfyUI found: set COMFYUI_PATH to a checkout")
    reports = [(version_of(place), measure(place)) for place in places]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n\n{table(reports)}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
