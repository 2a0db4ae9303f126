"""ComfyUI-Pusa: Wan video models with one noise level per latent frame, as ComfyUI nodes.

ComfyUI gets the nodes from :func:`comfy_entrypoint`. ComfyUI is only imported when that is called, so the package can
be imported without it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import PusaExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> "PusaExtension":
    """Called by ComfyUI to get the nodes."""
    from .nodes import PusaExtension, add_demo_models

    add_demo_models()
    return PusaExtension()
