"""What composes with Pusa Load: ``python -m tools.composes [--pack FOLDER ...] [--only NAME ...] [--compile]``.

Starts a ComfyUI with this pack, and with the given other packs, and runs every node that takes a MODEL and gives one on
the demo model: on the MODEL of Pusa Load, and on that of ComfyUI's own loader. Writes ``docs/composes.md``: the effect
of each node and the difference between the two, or how both refuse. Exits with 1 if any row differs, or proves nothing.
With ``--keep FILE`` each row is stored as soon as it is known, and a second call goes on behind the last one.
"""

import argparse
import json
import logging
import platform
import re
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tools.comfy_client import ComfyClient, PromptRefused, RunFailed
from tools.comfyui import PACK, find_comfyui, make_base, running_server
from tools.composes_cases import CASES, FOR_OTHERS, GGUF, OTHER_PACKS, Case, inputs_of, node, video_graph

log = logging.getLogger(__name__)

PAGE = PACK / "docs" / "composes.md"
BOUND = 1e-4  # greatest difference, in standard deviations of the video
VISIBLE = 0.1  # an effect below this, in the same unit, proves nothing about a node

Nodes = dict[str, dict[str, Any]]
"""Of ComfyUI's ``/object_info``, by name."""


@dataclass(frozen=True)
class Row:
    name: str
    pack: str
    effect: float = 0.0
    difference: float = 0.0
    error: str = ""  # of both MODELs
    failure: str = ""
    no_effect: str = ""  # why it is meant to have none

    def judged(self) -> "Row":
        """The row with what is wrong with its effect and difference."""
        if self.difference >= BOUND:
            return replace(self, failure="the two differ")
        if self.effect < VISIBLE and not self.no_effect:
            return replace(self, failure="no effect on either, which proves nothing")
        if self.effect >= VISIBLE and self.no_effect:
            return replace(self, failure=f"it has an effect, though {self.no_effect}")
        return self

    def cells(self) -> str:
        if self.error:
            return f"| {self.name} | | | refused alike: {self.error} |"
        said = "same effect" if not self.no_effect else f"none on either: {self.no_effect}"
        said = f"**fails**: {self.failure}" if self.failure else said
        return f"| {self.name} | {self.effect:.2g} | {self.difference:.1e} | {said} |"


def takes_model(name: str, info: dict[str, Any]) -> bool:
    inputs = info["input"].get("required", {})
    required = any(spec[0] == "MODEL" for spec in inputs.values())
    return "MODEL" in info["output"] and (required or name in CASES)


def why_not(name: str, compiled: bool) -> str:
    """Why a node is not run, or ""."""
    if "compile" in name.lower() and not compiled:
        return "minutes of compilation (`--compile`)"
    if name not in CASES and FOR_OTHERS.search(name):
        return "another network than Wan's"
    return "models or packs that it downloads" if OTHER_PACKS.search(name) else ""


def first_line(text: str) -> str:
    line = (text.strip().splitlines() or ["no message"])[0]
    return re.sub(r"\s+", " ", line)[:200].replace("|", "/")


def distance(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


class Comparison:
    """Runs nodes on both MODELs and compares the videos."""

    def __init__(self, client: ComfyClient) -> None:
        self.client = client
        self.plain: dict[tuple[float, str], Tensor] = {}
        ours, native = client.latent(video_graph(True, Case()), "video"), self.without_node(Case())
        self.baseline = distance(ours, native) / native.std().item()

    def without_node(self, case: Case) -> Tensor:
        """The video of the native MODEL in the settings of ``case``."""
        settings = case.cfg, case.sampler
        if settings not in self.plain:
            graph = video_graph(False, Case(cfg=case.cfg, sampler=case.sampler))
            self.plain[settings] = self.client.latent(graph, "video")
        return self.plain[settings]

    def row(self, name: str, pack: str, inputs: dict[str, Any], output: int) -> Row:
        case = CASES.get(name, Case())
        results: list[Tensor | str] = []
        for own in (True, False):
            try:
                graph = video_graph(own, case, node(name, **inputs), output)
                results.append(self.client.latent(graph, "video"))
            except RunFailed as error:
                results.append(first_line(str(error)))
            except PromptRefused as error:
                return Row(name, pack, failure=f"its settings in composes_cases are refused: {error}")
        ours, native = results
        if isinstance(ours, str) or isinstance(native, str):
            if isinstance(ours, str) and isinstance(native, str):
                return Row(name, pack, error=ours)
            which = "Pusa Load" if isinstance(ours, str) else "the native network"
            return Row(name, pack, failure=f"only on {which}: {ours if isinstance(ours, str) else native}")
        plain = self.without_node(case)
        effect, difference = (distance(native, other) / plain.std().item() for other in (plain, ours))
        return Row(name, pack, effect, difference, no_effect=case.no_effect).judged()


def pack_of(info: dict[str, Any]) -> str:
    """The folder of the pack that a node is from; "" for the core's."""
    module = info.get("python_module", "")
    return module.removeprefix("custom_nodes.") if module.startswith("custom_nodes.") else ""


def table(rows: Iterable[Row]) -> list[str]:
    lines = ["| node | effect | difference | |", "|---|---|---|---|"]
    return lines + [row.cells() for row in sorted(rows, key=lambda row: row.name.lower())]


def write_page(rows: list[Row], skipped: dict[str, list[str]], version: str, baseline: float) -> str:
    lines = [
        "# What composes with Pusa Load",
        "",
        "Every node that takes a MODEL and gives one, run on the MODEL of Pusa Load and on that of ComfyUI's own",
        "loader: the demo model, Pusa Sampler, 9 latent frames of which the first is given, 4 steps, cfg 3 (1 for",
        "KJNodes' NAG; KSampler for nodes that set a shift). *Effect*: how far the node moves a latent of the native",
        "network at most, in standard deviations of the video without it. *Difference*: how far Pusa Load's MODEL is",
        f"then from the native one at most; without any node it is {baseline:.1e}. The command fails for a difference",
        f"of {BOUND:g} or more, for an effect below {VISIBLE:g} where the row does not say why there is none, and if",
        "only one of the two MODELs refuses.",
        "",
        f"Written by `python -m tools.composes` with ComfyUI {version} on {platform.machine()}, CPU.",
    ]
    for pack in dict.fromkeys(["", *(row.pack for row in rows)]):
        chosen = [row for row in rows if row.pack == pack]
        lines += ["", f"## {pack or 'ComfyUI'}", "", *table(chosen)]
    lines += [
        "",
        "## Not run",
        "",
        "They need something that the demo model does not give. What Uni3C and InfiniteTalk add",
    ]
    lines += ["to the network is run in `tests/comfy/test_hooks.py`, with random weights.", ""]
    lines += [f"- {kind}: {', '.join(sorted(names))}" for kind, names in sorted(skipped.items())]
    return "\n".join(lines) + "\n"


def make_rows(comparison: Comparison, nodes: Nodes, compiled: bool, keep: Path | None) -> tuple[list[Row], Any]:
    """The rows of ``nodes``, and the names of those that are not run, by what they need."""
    known = {row["name"]: Row(**row) for row in json.loads(keep.read_text())} if keep and keep.exists() else {}
    rows: list[Row] = []
    skipped: dict[str, list[str]] = {}
    for name, info in nodes.items():
        inputs = why_not(name, compiled) or inputs_of(name, info)
        if isinstance(inputs, str):
            skipped.setdefault(inputs, []).append(name)
            continue
        if name not in known:
            known[name] = comparison.row(name, pack_of(info), inputs, info["output"].index("MODEL"))
            log.info("%s", known[name].cells())
            if keep:
                keep.write_text(json.dumps([asdict(row) for row in known.values()], indent=1) + "\n")
        rows.append(known[name])
    return rows, skipped


def compare(comfyui: Path, folders: list[Path], only: list[str], compiled: bool, keep: Path | None) -> tuple[str, bool]:
    """The page, and whether all rows are as they should be."""
    with tempfile.TemporaryDirectory() as folder:
        make_base(base := Path(folder) / "base")
        for pack in folders:
            (base / "custom_nodes" / pack.name).symlink_to(pack.resolve(), target_is_directory=True)
        if any(pack.name.lower() == "comfyui-gguf" for pack in folders):
            write_demo_gguf(base / "models" / "diffusion_models" / GGUF)
        with running_server(comfyui, base) as url:
            client = ComfyClient(url)
            version = client.get_json("/system_stats")["system"]["comfyui_version"]
            found = {name: info for name, info in client.get_json("/object_info").items() if takes_model(name, info)}
            nodes = {name: info for name, info in found.items() if not name.startswith("Pusa")}
            comparison = Comparison(client)
            rows, skipped = make_rows(
                comparison, {name: nodes[name] for name in only or nodes if name in nodes}, compiled, keep
            )
    return write_page(rows, skipped, version, comparison.baseline), not any(row.failure for row in rows)


def write_demo_gguf(path: Path) -> None:
    """The demo model as users of the pack ComfyUI-GGUF have theirs; needs the package gguf."""
    from pusa_core import load_checkpoint
    from pusa_core.weights.demo_files import DIT
    from tools.gguf_files import write_gguf

    write_gguf(load_checkpoint(DIT), "Q4_0", path)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.composes", description=__doc__)
    parser.add_argument("--pack", type=Path, nargs="*", default=[], help="folders of other packs")
    parser.add_argument("--only", nargs="*", default=[], help="nodes to run; the page is then printed, not written")
    parser.add_argument("--compile", action="store_true", help="also run nodes that compile, which take minutes")
    parser.add_argument("--keep", type=Path, help="a file of rows: those in it are not run again")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    comfyui = find_comfyui()
    if comfyui is None:
        parser.error("no ComfyUI found; set COMFYUI_PATH")
    page, passed = compare(comfyui, arguments.pack, arguments.only, arguments.compile, arguments.keep)
    if arguments.only:
        log.info("%s", page)
    else:
        PAGE.write_text(page, encoding="utf-8")
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
