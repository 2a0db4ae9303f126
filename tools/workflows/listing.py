"""Regenerates ``nodes.json``, the node types as listed by a server: ``python -m tools.workflows.listing``.

Starts a ComfyUI and lists the nodes of this pack. ``--core`` also lists the core nodes that the graphs use. Use the
oldest supported ComfyUI for that: newer versions accept its inputs, but not the other way round.
"""

import argparse
import json
from typing import Any

from tools.comfy_client import ComfyClient
from tools.comfyui import find_comfyui, temporary_server

from .node_types import STORED

Json = dict[str, Any]

CORE = (
    "CLIPLoader",
    "CLIPTextEncode",
    "CreateVideo",
    "EmptyHunyuanLatentVideo",
    "GetVideoComponents",
    "ImageCrop",
    "ImageBatch",
    "ImageFromBatch",
    "ImagePadForOutpaint",
    "KSampler",
    "LoadImage",
    "LoadVideo",
    "LoraLoaderModelOnly",
    "MaskComposite",
    "ModelSamplingSD3",
    "PreviewImage",
    "PrimitiveFloat",
    "PrimitiveInt",
    "SaveVideo",
    "SolidMask",
    "UNETLoader",
    "VAEDecode",
    "VAELoader",
)
KEPT = ("default", "min", "max", "step", "multiline", "control_after_generate")
FROM_DISK = {
    *("model_name", "lora_name", "other_model_name", "vae_name", "text_encoder", "init_lora", "clip_name"),
    *("model_name_low", "init_lora_low", "unet_name", "image", "file"),
}
"""Combos whose options are files on the server."""


def is_of_pack(node: Json) -> bool:
    return node["category"].startswith("Pusa")


def list_pack(info: Json) -> Json:
    """The nodes of this pack in a server's ``/object_info``."""
    return {name: list_node(node) for name, node in info.items() if is_of_pack(node)}


def list_core(info: Json) -> Json:
    """The core nodes that the graphs use."""
    return {name: list_node(info[name]) for name in CORE}


def list_node(node: Json) -> Json:
    """The properties that graphs depend on: names, types, order, defaults and limits."""
    return {
        "display_name": node["display_name"],
        "category": node["category"],
        "inputs": [
            [need, name, *_input(name, node["input"][need][name])]
            for need in ("required", "optional")
            for name in node["input_order"].get(need, [])
        ],
        "outputs": [list(output) for output in zip(node["output"], node["output_name"], strict=True)],
    }


def _input(name: str, spec: list[Any]) -> tuple[str, Json]:
    kind, settings = spec[0], spec[1] if len(spec) > 1 else {}
    if isinstance(kind, list):  # the older combo format
        settings, kind = {**settings, "options": kind}, "COMBO"
    kept = {key: settings[key] for key in KEPT if settings.get(key) is not None}
    if kind == "COMBO" and name not in FROM_DISK:
        kept["options"] = settings["options"]
    return kind, kept


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.workflows.listing", description=__doc__)
    parser.add_argument("--core", action="store_true", help="also list ComfyUI's core nodes")
    args = parser.parse_args()
    comfyui = find_comfyui()
    if comfyui is None:
        raise SystemExit("no ComfyUI found: set COMFYUI_PATH to a checkout")
    with temporary_server(comfyui) as url:
        info = ComfyClient(url).get_json("/object_info")
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    core = list_core(info) if args.core else {name: stored[name] for name in CORE}
    STORED.write_text(dump({**list_pack(info), **core}), encoding="utf-8")


def dump(listing: Json) -> str:
    return json.dumps(dict(sorted(listing.items())), indent=1) + "\n"


if __name__ == "__main__":
    main()
