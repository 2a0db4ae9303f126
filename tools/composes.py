"""What composes with Pusa Load: ``python -m tools.composes [--pack FOLDER ...] [--only NAME ...] [--compile]``.

Starts a ComfyUI with this pack, and with the given other packs, and runs every node that takes a MODEL and gives one on
the demo model: on the MODEL of Pusa Load, and on that of ComfyUI's own loader. Writes ``docs/composes.md``: the effect
of each node and the difference between the two, or how both refuse. Exits with 1 if any row differs.
"""

import argparse
import logging
import platform
import re
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from torch import Tensor

from pusa_core.weights.demo_files import DIT, LORA
from tools.comfy_client import ComfyClient, Graph, PromptRefused, RunFailed
from tools.comfyui import PACK, find_comfyui, make_base, running_server

log = logging.getLogger(__name__)

PAGE = PACK / "docs" / "composes.md"
BOUND = 1e-4  # greatest difference; latents have a standard deviation of about 1
VISIBLE = 1e-3  # an effect below this proves nothing about a node
SECONDS = 900  # for one graph; compiling takes minutes

SETTINGS: dict[str, dict[str, Any]] = {
    "ApplyRifleXRoPE_WanVideo": {"k": 1},
    "ContextWindowsManual": {"context_length": 5, "context_overlap": 2, "dim": 2},
    "EasyCache": {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0},
    "LazyCache": {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0},
    "LoraLoaderModelOnly": {"lora_name": LORA.name},
    "ModelMergeSimple": {"ratio": 0.5},
    "RescaleCFG": {"multiplier": 1.0},
    "ScaleROPE": {"scale_t": 0.4, "scale_x": 0.5, "shift_y": 2.0},
    "SkipLayerGuidanceDiT": {"double_layers": "1", "start_percent": 0.0, "end_percent": 1.0},
    "SkipLayerGuidanceDiTSimple": {"double_layers": "1", "start_percent": 0.0, "end_percent": 1.0},
    "SkipLayerGuidanceWanVideo": {"blocks": "1", "start_percent": 0.0, "end_percent": 1.0},
    "WanChunkFeedForward": {"dim_threshold": 1024},
    "WanContextWindowsManual": {"context_length": 17, "context_overlap": 4},
    "WanVideoEnhanceAVideoKJ": {"weight": 10.0},
    "WanVideoNAG": {"nag_alpha": 1.0},
}
"""Inputs for which a node is seen to act on a short video of four steps; others have their defaults."""

LINKS = {
    "LATENT": ["start", 0],
    "CONDITIONING": ["negative", 0],
    "CLIP": ["demo", 0],
    "VAE": ["demo", 1],
    "IMAGE": ["picture", 0],
}
EMPTY: dict[str, Any] = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}
WIDGETS = (*EMPTY, "COMBO")


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def video_graph(own: bool) -> Graph:
    """An image-to-video graph without its sampler's MODEL; ``other`` is a second MODEL of the same kind."""
    native = node("UNETLoader", unet_name=DIT.name, weight_dtype="default")
    ours = node("PusaLoad", model_name=DIT.name, lora_name="none", lora_strength=1.0)
    prompt = "a red circle moves to the right"
    return {
        "model": ours if own else native,
        "other": node("LoraLoaderModelOnly", model=["model", 0], lora_name=LORA.name, strength_model=1.0),
        "demo": node("PusaDemoLoader"),
        "positive": node("CLIPTextEncode", clip=["demo", 0], text=prompt),
        "negative": node("CLIPTextEncode", clip=["demo", 0], text="a blue square"),
        "picture": node("EmptyImage", width=64, height=64, batch_size=1, color=0x3366CC),
        "start": node("PusaEncodeKeyframes", vae=["demo", 1], image=["picture", 0], position=0, length=33),
        "video": node(
            "PusaSampler",
            model=["model", 0],
            positive=["positive", 0],
            negative=["negative", 0],
            latent=["start", 0],
            seed=7,
            steps=4,
            cfg=3.0,
            shift=5.0,
        ),
    }


@dataclass(frozen=True)
class Row:
    name: str
    pack: str
    effect: float | None = None
    difference: float | None = None
    error: str = ""  # of both MODELs
    failure: str = ""

    def cells(self) -> str:
        if self.failure:
            return f"| {self.name} | | | **fails**: {self.failure} |"
        if self.error:
            return f"| {self.name} | | | refused alike: {self.error} |"
        said = "same effect" if self.effect and self.effect > VISIBLE else "no effect on either"
        return f"| {self.name} | {self.effect:.2g} | {self.difference:.1e} | {said} |"


def takes_model(info: dict[str, Any]) -> bool:
    inputs = info["input"].get("required", {})
    return "MODEL" in info["output"] and any(spec[0] == "MODEL" for spec in inputs.values())


def default_of(spec: list[Any]) -> Any:
    """The value of a widget that nobody has touched."""
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    if "default" in options:
        return options["default"]
    if isinstance(kind, str) and kind in EMPTY:
        return EMPTY[kind]
    choices = kind if isinstance(kind, list) else options.get("options")
    return choices[0] if choices else None


def inputs_of(name: str, info: dict[str, Any]) -> dict[str, Any] | str:
    """Inputs for a node between the loader and the sampler, or the type of one that the demo cannot give."""
    models = chain([["model", 0]], repeat(["other", 0]))
    inputs: dict[str, Any] = {}
    for key, spec in info["input"].get("required", {}).items():
        kind = spec[0]
        if kind == "MODEL":
            inputs[key] = next(models)
        elif isinstance(kind, list) or kind in WIDGETS:
            inputs[key] = default_of(spec)
        elif kind in LINKS:
            inputs[key] = LINKS[kind]
        else:
            return str(kind)
    return {**inputs, **SETTINGS.get(name, {})}


def first_line(text: str) -> str:
    line = (text.strip().splitlines() or ["no message"])[0]
    return re.sub(r"\s+", " ", line)[:120].replace("|", "/")


class Comparison:
    """Runs nodes on both MODELs and compares the videos."""

    def __init__(self, client: ComfyClient) -> None:
        self.client = client
        self.plain = {own: self.sample(own) for own in (True, False)}

    def sample(self, own: bool, changed: dict[str, Any] | None = None, output: int = 0) -> Tensor:
        graph = video_graph(own)
        if changed is not None:
            graph["changed"] = changed
            graph["video"]["inputs"]["model"] = ["changed", output]
        return self.client.latent(graph, "video")

    def row(self, name: str, pack: str, inputs: dict[str, Any], output: int) -> Row:
        results: dict[bool, Tensor | str] = {}
        for own in (True, False):
            try:
                results[own] = self.sample(own, node(name, **inputs), output)
            except (RunFailed, PromptRefused) as error:
                results[own] = first_line(str(error))
        ours, native = results[True], results[False]
        if isinstance(ours, str) or isinstance(native, str):
            if isinstance(ours, str) and isinstance(native, str):
                return Row(name, pack, error=native)
            which = "Pusa Load" if isinstance(ours, str) else "the native network"
            return Row(name, pack, failure=f"only on {which}: {ours if isinstance(ours, str) else native}")
        effect = (native - self.plain[False]).abs().max().item()
        difference = (ours - native).abs().max().item()
        failure = "" if difference < BOUND else f"effect {effect:.2g}, difference {difference:.1e}"
        return Row(name, pack, effect, difference, failure=failure)


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
        "loader: the demo model, Pusa Sampler, 9 latent frames of which the first is given, 4 steps, cfg 3. *Effect*:",
        "how far the node moves the latents of the native network at most. *Difference*: how far Pusa Load's MODEL is",
        f"then from the native one at most; without any node it is {baseline:.1e}. The command fails for a difference",
        f"of {BOUND:g} or more, and where only one of the two MODELs refuses.",
        "",
        f"Written by `python -m tools.composes` with ComfyUI {version} on {platform.machine()}, CPU.",
    ]
    for pack in dict.fromkeys(["", *(row.pack for row in rows)]):
        chosen = [row for row in rows if row.pack == pack]
        lines += ["", f"## {pack or 'ComfyUI'}", "", *table(chosen)]
    lines += ["", "## Not run", "", "They need something that the demo model does not give:", ""]
    lines += [f"- {kind}: {', '.join(sorted(names))}" for kind, names in sorted(skipped.items())]
    return "\n".join(lines) + "\n"


def compare(comfyui: Path, folders: list[Path], only: list[str], compiled: bool) -> tuple[str, list[Row]]:
    """The page, and its rows."""
    with tempfile.TemporaryDirectory() as folder:
        make_base(base := Path(folder) / "base")
        for pack in folders:
            (base / "custom_nodes" / pack.name).symlink_to(pack.resolve(), target_is_directory=True)
        with running_server(comfyui, base) as url:
            client = ComfyClient(url)
            version = client.get_json("/system_stats")["system"]["comfyui_version"]
            nodes = {name: info for name, info in client.get_json("/object_info").items() if takes_model(info)}
            comparison = Comparison(client)
            rows: list[Row] = []
            skipped: dict[str, list[str]] = {}
            for name, info in nodes.items():
                if name.startswith("Pusa") or (only and name not in only):
                    continue
                if "compile" in name.lower() and not compiled:
                    skipped.setdefault("minutes of compilation (`--compile`)", []).append(name)
                    continue
                inputs = inputs_of(name, info)
                if isinstance(inputs, str):
                    skipped.setdefault(inputs, []).append(name)
                    continue
                rows.append(comparison.row(name, pack_of(info), inputs, info["output"].index("MODEL")))
                log.info("%s", rows[-1].cells())
            baseline = (comparison.plain[True] - comparison.plain[False]).abs().max().item()
    return write_page(rows, skipped, version, baseline), rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.composes", description=__doc__)
    parser.add_argument("--pack", type=Path, nargs="*", default=[], help="folders of other packs")
    parser.add_argument("--only", nargs="*", default=[], help="nodes to run; the page is then printed, not written")
    parser.add_argument("--compile", action="store_true", help="also run nodes that compile, which take minutes")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    comfyui = find_comfyui()
    if comfyui is None:
        parser.error("no ComfyUI found; set COMFYUI_PATH")
    page, rows = compare(comfyui, arguments.pack, arguments.only, arguments.compile)
    if arguments.only:
        log.info("%s", page)
    else:
        PAGE.write_text(page, encoding="utf-8")
    return int(any(row.failure for row in rows))


if __name__ == "__main__":
    sys.exit(main())
