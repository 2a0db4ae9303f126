"""The colours of ComfyUI's live preview for the demo's VAE, as ``demo.training.preview_colours`` fitted them."""

import json
from pathlib import Path

COLOURS = Path(__file__).with_name("preview_colours.json")


def preview_colours() -> tuple[list[list[float]], list[float]]:
    """Factors ``[16][3]`` and bias ``[3]`` from normalised latents to RGB in -1..1."""
    stored = json.loads(COLOURS.read_text(encoding="utf-8"))
    return stored["factors"], stored["bias"]
