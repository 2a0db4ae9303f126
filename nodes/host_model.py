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
from ..pusa_core.checkpoints import Checkpoint, check_text_to_video, parse_checkpoint
from ..pusa_core.lora import LoraMatch, match_lora
from ..pusa_core.quantised import FP8, comfy_tensors, dequantise
from ..pusa_core.weight_files import check_file, check_finite, is_pickled, read_file, shard_paths

UNSUPPORTED = ("time_dim_concat", "reference_latent", "context_latents")
"""Arguments of native Wan networks that add tokens; one timestep per latent frame would then hit the wrong tokens."""

CHECKED_ELEMENTS = 1 << 20
"""Tensors up to this size are looked through for NaN; ComfyUI may never hold the large ones as a whole."""


class ComfyWanModel(WanModel):
    """``pusa_core``'s DiT, called the way ComfyUI calls a Wan network."""

    report = ""  # what its file was recognised as

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
    checkpoint = read_wan(path)
    tensors = host_tensors(checkpoint)
    known = inspect.signature(comfy.sd.load_diffusion_model_state_dict).parameters
    arguments = {"disable_dynamic": disable_dynamic} if "disable_dynamic" in known else {}  # older versions lack it
    model = comfy.sd.load_diffusion_model_state_dict(tensors, model_options=model_options, **arguments)
    if model is None:
        raise ValueError(f"ComfyUI does not recognise {path} as a Wan model; download or copy it again")
    if checkpoint.quantised:
        keep_full_precision(model.model.diffusion_model, checkpoint.weights)
    model.model.diffusion_model = adopt(model.model.diffusion_model)
    model.model.diffusion_model.report = checkpoint.describe()
    model.cached_patcher_init = (load_wan, (path, model_options))  # how ComfyUI makes a second copy of a MODEL
    return model


def read_wan(path: str) -> Checkpoint:
    """A checkpoint, or all shards of it, mapped into memory the way that ComfyUI does it."""
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for shard in shard_paths(path):
        check_file(shard)
        try:
            if is_pickled(shard):  # older versions of ComfyUI run the code in such a file
                part, header = read_file(shard)
            else:
                part, header = comfy.utils.load_torch_file(str(shard), return_metadata=True)
        except Exception as error:
            raise ValueError(f"{shard} cannot be read as a weight file ({error}); download or copy it again") from error
        tensors |= part
        metadata |= header or {}
    checkpoint = parse_checkpoint(tensors, metadata, source=path)
    for name, weight in checkpoint.weights.items():
        if weight.numel() <= CHECKED_ELEMENTS and weight.is_floating_point():
            check_finite(weight, name, path)
    return checkpoint


def host_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors of a checkpoint, quantised ones as they are, in the spelling that this ComfyUI reads."""
    mixed = hasattr(comfy.utils, "detect_layer_quantization")  # reads the quantisation of each layer
    weights, kept = dict(checkpoint.weights), {}
    for name, layer in checkpoint.quantised.items():
        if not layer.is_fp8 and not mixed:
            raise ValueError(
                f"{checkpoint.source}: {name} is quantised as {layer.format}, which this version of ComfyUI cannot "
                f"read; update ComfyUI, or pick an fp8, fp16 or bf16 file"
            )
        if layer.is_fp8 and layer.scale is not None and layer.scale.numel() > 1:
            # ComfyUI's fp8 has one scale for a layer
            weights[f"{name}.weight"] = dequantise(weights[f"{name}.weight"], layer, name, checkpoint.source)
        else:
            kept[name] = layer
    return comfy_tensors(weights, kept, marker=not mixed)


def keep_full_precision(native: nn.Module, weights: dict[str, Tensor]) -> None:
    """Put back what the file has in full precision and an older ComfyUI, which knows no mixture, cast to fp8."""
    for name, parameter in list(native.named_parameters()):
        if parameter.dtype in FP8 and name in weights and weights[name].dtype not in FP8:
            module, _, key = name.rpartition(".")
            value = weights[name].to(parameter.device)
            native.get_submodule(module).register_parameter(key, nn.Parameter(value, requires_grad=False))


def add_lora(model: ModelPatcher, lora: Lora, strength: float) -> tuple[ModelPatcher, LoraMatch]:
    """A clone of ``model`` with ``lora`` among its patches, as a LoRA node of ComfyUI would add it.

    Raises ``ValueError`` for a LoRA that does not fit, of which ComfyUI would only write into its log.
    """
    shapes = {name: tuple(value.shape) for name, value in model.model.diffusion_model.named_parameters()}
    match = match_lora(lora, shapes)
    tensors = Lora(match.layers, diffs=match.diffs).state_dict()
    patched, _ = comfy.sd.load_lora_for_models(model, None, tensors, strength, 0.0)
    names = {f"diffusion_model.{name}" for name in (*(f"{layer}.weight" for layer in match.layers), *match.diffs)}
    if skipped := sorted(names - patched.patches.keys()):
        raise ValueError(f"ComfyUI does not take the LoRA's update of {skipped[:3]}; update ComfyUI")
    return patched, match


def check_model(model: ModelPatcher, name: str) -> None:
    """Raise ``ValueError`` unless the MODEL input ``name`` is a plain Wan2.1 / Wan2.2-14B text-to-video model."""
    network, kind = model.model, type(model.model).__name__
    fix = "Pusa works with Wan2.1 or Wan2.2-14B text-to-video models: load one with Pusa Load"
    if network.model_config.unet_config.get("image_model") != "wan2.1":
        raise ValueError(f"{name} is {kind}, not a Wan model; {fix}")
    check_text_to_video(dict(network.diffusion_model.named_parameters()), name)
    if type(network) is not comfy.model_base.WAN21:
        raise ValueError(f"{name} is {kind}, a Wan model of another kind; {fix}")
    if not isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST):
        raise ValueError(
            f"{name} has a model sampling that is not a rectified flow; remove the node that set it (ModelSamplingSD3 "
            f"is fine)"
        )
