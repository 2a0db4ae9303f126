"""The demo model's text encoder and VAE as ComfyUI's own CLIP and VAE objects."""

import math
from typing import Any

import comfy.ldm.wan.vae
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import torch
from torch import Tensor, nn

from ...pusa_core.media.demo_text import encode_text, words_of

Tokens = dict[str, list[list[tuple[str, float]]]]


class DemoTokenizer:
    """Tokenises into words, in the format of ComfyUI's tokenisers."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] | None = None) -> None:
        pass

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs: Any) -> Tokens:
        return {"demo": [[(word, 1.0) for word in words_of(text)]]}


class DemoTextEncoder(nn.Module):
    """``pusa_core.media.demo_text`` as the model of a CLIP; it has no weights."""

    dtypes: tuple[torch.dtype, ...] = ()

    def __init__(self, device: Any = None, dtype: Any = None, model_options: dict[str, Any] | None = None) -> None:
        super().__init__()

    def set_clip_options(self, options: dict[str, Any]) -> None:
        pass

    def reset_clip_options(self) -> None:
        pass

    def encode_token_weights(self, tokens: Tokens) -> tuple[Tensor, None]:
        """Context ``[1, 24, 4096]``; Wan has no pooled embedding."""
        return encode_text(" ".join(word for word, _ in tokens["demo"][0])), None


def demo_clip() -> comfy.sd.CLIP:
    return comfy.sd.CLIP(comfy.supported_models_base.ClipTarget(DemoTokenizer, DemoTextEncoder))


class SmallWanVAE(comfy.sd.VAE):
    """A Wan VAE of any width, for versions of ComfyUI that support only the full-size one."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__(sd={})  # sets the common attributes; logs a warning about missing weights
        self.upscale_ratio = (lambda frames: max(0, frames * 4 - 3), 8, 8)
        self.upscale_index_formula = (4, 8, 8)
        self.downscale_ratio = (lambda frames: max(0, math.floor((frames + 3) / 4)), 8, 8)
        self.downscale_index_formula = (4, 8, 8)
        self.latent_dim, self.latent_channels = 3, 16
        self.working_dtypes = [torch.bfloat16, torch.float16, torch.float32]
        self.memory_used_encode = lambda shape, dtype: 6000 * shape[3] * shape[4] * dtype.itemsize
        self.memory_used_decode = lambda shape, dtype: 7000 * 64 * shape[3] * shape[4] * dtype.itemsize
        network = comfy.ldm.wan.vae.WanVAE(
            dim=tensors["decoder.head.0.gamma"].shape[0],
            z_dim=self.latent_channels,
            dim_mult=[1, 2, 4, 4],
            temperal_downsample=[False, True, True],
        )
        network.load_state_dict(tensors)
        self.device = comfy.model_management.vae_device()
        self.vae_dtype = comfy.model_management.vae_dtype(self.device, self.working_dtypes)
        self.output_device = comfy.model_management.intermediate_device()
        self.first_stage_model = network.eval().to(self.vae_dtype)
        self.patcher = comfy.model_patcher.ModelPatcher(
            self.first_stage_model,
            load_device=self.device,
            offload_device=comfy.model_management.vae_offload_device(),
        )


def demo_vae(path: str) -> comfy.sd.VAE:
    """Load the demo model's VAE, or any other file in the layout of the Wan2.1 VAE."""
    tensors = comfy.utils.load_torch_file(path)
    try:
        return comfy.sd.VAE(sd=tensors)
    except RuntimeError:  # shape mismatch: this version assumes the full-size Wan VAE
        return SmallWanVAE(tensors)
