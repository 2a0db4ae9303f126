"""ComfyUI-Pusa: Wan video models with one noise level per latent frame, as ComfyUI nodes.

ComfyUI finds the nodes through :func:`comfy_entrypoint`. Nothing of ComfyUI is imported before it is called, so the
package can be imported anywhere.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import PusaExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> "PusaExtension":
    """What ComfyUI calls to get the nodes."""
    from .nodes import PusaExtension, add_demo_models

    add_demo_models()
    return PusaExtension()
