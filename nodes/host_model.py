"""Our DiT inside a ComfyUI MODEL.

ComfyUI loads the file as a native Wan MODEL, with its own detection, quantisation, dtype and offload. Its loaded layers
have the names that ours have, so they move over into our network, which then takes the native one's place. Everything
ComfyUI does to a MODEL (LoRA, offload, attention backends, wrappers) goes on working.
"""

import inspect
from typing import Any

import comfy.ldm.common_dit
import comfy.model_base
import comfy.model_sampling
import comfy.patcher_extension
import comfy.sd
import comfy.utils
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ..pusa_core import Lora, WanConfig, WanModel
from ..pusa_core.checkpoints import check_text_to_video, original_names
from ..pusa_core.lora import match_lora

UNSUPPORTED = ("time_dim_concat", "reference_latent", "context_latents")
"""Arguments of native Wan networks that add tokens; one timestep per latent frame would then hit the wrong tokens."""


class ComfyWanModel(WanModel):
    """``pusa_core``'s DiT, called the way ComfyUI calls a Wan network."""

    def __init__(self, config: WanConfig, dtype: torch.dtype) -> None:
        super().__init__(config, device="meta")
        # What ComfyUI and other packs read from a Wan network.
        self.dtype = dtype
        self.patch_size = config.patch_size
        self.dim, self.num_heads, self.num_layers = config.dim, config.num_heads, config.num_layers

    def embed(self, latents: Tensor) -> Tensor:
        return self.patch_embedding(latents.float()).to(latents.dtype)  # ComfyUI holds this layer in fp32

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        clip_fea: Tensor | None = None,
        time_dim_concat: Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        options = {} if transformer_options is None else transformer_options
        kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
        wrappers = comfy.patcher_extension.get_all_wrappers(kind, options)
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return executor.execute(x, timestep, context, clip_fea, time_dim_concat, options, **kwargs)

    def _forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        clip_fea: Tensor | None = None,
        time_dim_concat: Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        refuse_extra_tokens({**kwargs, "time_dim_concat": time_dim_concat})

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            heads = q.shape[2]
            return optimized_attention(
                q.flatten(2), k.flatten(2), v.flatten(2), heads=heads, transformer_options=transformer_options
            )

        padded = comfy.ldm.common_dit.pad_to_patch_size(x, self.patch_size)
        velocity = super().forward(padded, timestep, context, attend=attend)
        return velocity[..., : x.shape[-3], : x.shape[-2], : x.shape[-1]]


def refuse_extra_tokens(arguments: dict[str, Any]) -> None:
    """Raise ``ValueError`` when a conditioning would add tokens to the video's own."""
    for name in UNSUPPORTED:
        if arguments.get(name) is not None:
            raise ValueError(
                f"the conditioning carries {name}, which Pusa cannot combine with one noise level per frame; "
                f"connect a plain text prompt and give pictures with VAE Encode Keyframes"
            )


def adopt(native: nn.Module) -> ComfyWanModel:
    """Our network around the loaded layers of ComfyUI's own Wan network ``native``."""
    config = WanConfig.from_state_dict(dict(native.named_parameters()), num_heads=native.num_heads)
    ours = ComfyWanModel(config, native.dtype)
    for name, module in list(ours.named_modules()):
        source = native.get_submodule(name)
        if next(module.children(), None) is None:
            ours.get_submodule(name.rpartition(".")[0]).register_module(name.rpartition(".")[2], source)
            continue
        for key in list(module._parameters):
            module.register_parameter(key, source._parameters[key])
            if (dtype := getattr(source, f"{key}_comfy_model_dtype", None)) is not None:
                setattr(module, f"{key}_comfy_model_dtype", dtype)  # newer versions note it on the owner of the weight
    return ours.eval().requires_grad_(False)


def load_wan(path: str, model_options: dict[str, Any], disable_dynamic: bool = False) -> ModelPatcher:
    """A MODEL with our DiT from a Wan text-to-video file. Raises ``ValueError`` for any other file."""
    try:
        tensors, metadata = comfy.utils.load_torch_file(path, return_metadata=True)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a weight file ({error}); download or copy it again") from error
    tensors = original_names(tensors)
    check_text_to_video(tensors, source=path)
    known = inspect.signature(comfy.sd.load_diffusion_model_state_dict).parameters
    newer = {"metadata": metadata, "disable_dynamic": disable_dynamic}  # arguments that older versions lack
    model = comfy.sd.load_diffusion_model_state_dict(
        tensors, model_options=model_options, **{key: value for key, value in newer.items() if key in known}
    )
    if model is None:
        raise ValueError(f"ComfyUI does not recognise {path} as a Wan model; download or copy it again")
    model.model.diffusion_model = adopt(model.model.diffusion_model)
    model.cached_patcher_init = (load_wan, (path, model_options))  # how ComfyUI makes a second copy of a MODEL
    return model


def add_lora(model: ModelPatcher, lora: Lora, strength: float) -> ModelPatcher:
    """A clone of ``model`` with ``lora`` among its patches, as a LoRA node of ComfyUI would add it."""
    weights = {name: value.shape for name, value in model.model.diffusion_model.named_parameters()}
    match_lora(lora, weights)  # refuses a LoRA that does not fit; ComfyUI would only log it
    patched, _ = comfy.sd.load_lora_for_models(model, None, lora.state_dict(), strength, 0.0)
    return patched


def check_model(model: ModelPatcher, name: str) -> None:
    """Raise ``ValueError`` unless the MODEL input ``name`` is a plain Wan2.1 / Wan2.2-14B text-to-video model."""
    network, config = model.model, model.model.model_config.unet_config
    kind = type(network).__name__
    if type(network) is comfy.model_base.WAN21 and config.get("in_dim") == 16 and config.get("model_type") == "t2v":
        if isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST):
            return
        kind += " with a model sampling that is not a rectified flow"
    elif config.get("image_model") == "wan2.1":
        kind += f" (Wan {config.get('model_type')}, {config.get('in_dim')} input channels where text-to-video has 16)"
    raise ValueError(
        f"{name} is {kind}; Pusa works with Wan2.1 or Wan2.2-14B text-to-video models, "
        f"which it turns into all the others: load one with Pusa Load"
    )
