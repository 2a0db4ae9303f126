"""Node ids, inputs, their order, types and defaults are what shared graphs rely on: they must not change."""

import json
from typing import Any

from tools.comfy_client import ComfyClient
from tools.comfyui import PACK

STORED = PACK / "tools" / "workflows" / "nodes.json"
KEPT = ("default", "min", "max", "step", "multiline", "control_after_generate")
FROM_DISK = ("model_name", "lora_name", "other_model_name", "vae_name", "text_encoder", "init_lora")


def listing(info: dict[str, Any]) -> dict[str, Any]:
    """What matters of a server's ``/object_info``, for the nodes of this pack."""
    nodes = {}
    for name, node in sorted(info.items()):
        if not node["category"].startswith("Pusa"):
            continue
        nodes[name] = {
            "display_name": node["display_name"],
            "category": node["category"],
            "inputs": [
                [kind, key, *_input(key, node["input"][kind][key])]
                for kind in ("required", "optional")
                for key in node["input_order"].get(kind, [])
            ],
            "outputs": [list(output) for output in zip(node["output"], node["output_name"], strict=True)],
        }
    return nodes


def _input(name: str, spec: list[Any]) -> tuple[Any, dict[str, Any]]:
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    if isinstance(kind, list):
        options, kind = {**options, "options": kind}, "COMBO"
    kept = {key: options[key] for key in KEPT if options.get(key) is not None}
    if kind == "COMBO" and name not in FROM_DISK:
        kept["options"] = options["options"]
    return kind, kept


def test_nodes_are_as_published(comfy: ComfyClient) -> None:
    assert listing(comfy.get_json("/object_info")) == json.loads(STORED.read_text())


def test_demo_models_are_listed(comfy: ComfyClient) -> None:
    for kind, name in (
        ("diffusion_models", "pusa_demo_wan_t2v.safetensors"),
        ("loras", "pusa_demo_lora.safetensors"),
        ("vae", "pusa_demo_vae.safetensors"),
    ):
        assert name in comfy.get_json(f"/models/{kind}")
