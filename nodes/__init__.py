"""The ComfyUI nodes, thin layers over ``pusa_core``. Only ``comfyui/`` uses ComfyUI's internals."""

import folder_paths
from comfy_api.latest import ComfyExtension, io

from ..pusa_core.weights.demo_files import MODELS
from .attention_map import PusaAttentionMap
from .demo import PusaDemoClip, PusaDemoDataset, PusaDemoImage, PusaDemoLoader
from .encode_keyframes import PusaEncodeKeyframes
from .extend_video import PusaExtendVideo
from .frame_mask import PusaFrameMask
from .load import PusaLoad
from .parameter_drift import PusaParameterDrift
from .patch_model import PusaPatchModel
from .sampler import PusaSampler
from .train_lora import PusaTrainLora


def add_demo_models() -> None:
    """Register the demo model's folders with ComfyUI."""
    for kind in ("diffusion_models", "loras", "vae"):
        folder_paths.add_model_folder_path(kind, str(MODELS / kind))


class PusaExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            PusaLoad,
            PusaFrameMask,
            PusaEncodeKeyframes,
            PusaSampler,
            PusaExtendVideo,
            PusaPatchModel,
            PusaAttentionMap,
            PusaParameterDrift,
            PusaDemoLoader,
            PusaDemoImage,
            PusaDemoClip,
            PusaTrainLora,
            PusaDemoDataset,
        ]
