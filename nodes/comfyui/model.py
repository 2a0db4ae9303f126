"""Wan files and LoRAs -> a ComfyUI MODEL with our DiT.

ComfyUI loads the file as a native Wan MODEL, with its own detection, quantisation, dtype and offloading. Our network is
then built around the loaded layers (``network``) and replaces the native one.
"""

import importlib
import inspect
from typing import Any

import comfy.model_base
import comfy.model_sampling
import comfy.sd
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...pusa_core import Lora, WanModel
from ...pusa_core.weights.checkpoints import Checkpoint, check_text_to_video, parse_checkpoint
from ...pusa_core.weights.files import check_file, check_finite, is_pickled, read_file, shard_paths
from ...pusa_core.weights.lora import LoraMatch, check_strength, match_lora
from ...pusa_core.weights.quantised import FP8, as_e4m3, comfy_tensors, dequantise
from .network import adopt

FILES = "pusa_files"
"""Attachment of a MODEL: the names of the files that it was loaded from, for messages."""

FAMILY = "pusa_family"
"""Attachment of a MODEL: the :class:`MadeForLevels` it is one of, if any."""

CHECKED_ELEMENTS = 1 << 20
"""Tensors up to this size are checked for NaN; ComfyUI may never have larger ones fully in memory."""


def load_wan(path: str, model_options: dict[str, Any], disable_dynamic: bool = False) -> ModelPatcher:
    """Load a Wan text-to-video file as a MODEL with our DiT. Raises ``ValueError`` for any other file."""
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
    model.set_attachments(FILES, (checkpoint.name,))
    model.set_attachments(FAMILY, checkpoint.family)
    model.cached_patcher_init = (load_wan, (path, model_options))  # ComfyUI calls it to make a second copy of a MODEL
    return model


def read_wan(path: str) -> Checkpoint:
    """Read a checkpoint, or all of its shards, memory-mapped by ComfyUI's own loader."""
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for shard in shard_paths(path):
        check_file(shard)
        try:
            if is_pickled(shard):  # older versions of ComfyUI execute code in pickled files
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
    """The tensors of a checkpoint in the quantisation format that this version of ComfyUI reads."""
    mixed = hasattr(comfy.utils, "detect_layer_quantization")  # supports per-layer quantisation
    known = importlib.import_module("comfy.quant_ops").QUANT_ALGOS if mixed else ()
    weights, kept = dict(checkpoint.weights), {}
    for name, layer in checkpoint.quantised.items():
        if not layer.is_fp8 and layer.format not in known:
            raise ValueError(
                f"{checkpoint.source}: {name} is quantised as {layer.format}, which this version of ComfyUI cannot "
                f"read; update ComfyUI, or pick an fp8, fp16 or bf16 file"
            )
        if layer.is_fp8 and layer.scale is not None and layer.scale.numel() > 1:
            # ComfyUI supports one fp8 scale per layer
            weights[f"{name}.weight"] = dequantise(weights[f"{name}.weight"], layer, name, checkpoint.source)
        elif mixed and layer.format == FP8[torch.float8_e5m2] and layer.scale is not None:
            # ComfyUI rounds a patched weight to the format it is in, and e4m3 has one bit more
            weights[f"{name}.weight"], kept[name] = as_e4m3(weights[f"{name}.weight"], layer)
        else:
            kept[name] = layer
    return comfy_tensors(weights, kept, marker=not mixed) | checkpoint.settings


def keep_full_precision(native: nn.Module, weights: dict[str, Tensor]) -> None:
    """Restore full-precision weights that an older ComfyUI, without per-layer quantisation, has cast to fp8."""
    for name, parameter in list(native.named_parameters()):
        if parameter.dtype in FP8 and name in weights and weights[name].dtype not in FP8:
            module, _, key = name.rpartition(".")
            value = weights[name].to(parameter.device)
            native.get_submodule(module).register_parameter(key, nn.Parameter(value, requires_grad=False))


def add_lora(model: ModelPatcher, lora: Lora, strength: float) -> tuple[ModelPatcher, LoraMatch]:
    """A clone of ``model`` patched with ``lora``, as by ComfyUI's LoRA nodes.

    Raises ``ValueError`` for a LoRA that does not fit, for which ComfyUI itself would only log a warning.
    """
    check_strength(strength, f"of {lora.name or 'the LoRA'}")
    shapes = {name: tuple(value.shape) for name, value in model.model.diffusion_model.named_parameters()}
    match = match_lora(lora, shapes)
    tables = {name: diff for name, diff in match.diffs.items() if name.endswith("modulation")}
    diffs = {name: diff for name, diff in match.diffs.items() if name not in tables}
    tensors = Lora(match.layers, diffs=diffs).state_dict()
    patched, _ = comfy.sd.load_lora_for_models(model, None, tensors, strength, 0.0)
    names = {f"diffusion_model.{name}" for name in (*(f"{layer}.weight" for layer in match.layers), *diffs)}
    if skipped := sorted(names - patched.patches.keys()):
        raise ValueError(f"ComfyUI does not take the LoRA's update of {skipped[:3]}; update ComfyUI")
    add_to_tables(patched, tables, strength)
    files = (*(model.get_attachment(FILES) or ()), f"LoRA {lora.name} at strength {strength:g}")
    patched.set_attachments(FILES, files)
    return patched, match


def add_to_tables(model: ModelPatcher, diffs: dict[str, Tensor], strength: float) -> None:
    """Add differences of modulation tables to a MODEL.

    ComfyUI patches the weights of layers alone; a parameter that lies beside layers, as a block's modulation does, it
    takes for random initialisation. So the whole parameter, which is small, is replaced.
    """
    for name, diff in diffs.items():
        key = f"diffusion_model.{name}"
        table = model.get_model_object(key)
        changed = table.float() + strength * diff.to(table.device, torch.float32)
        model.add_object_patch(key, nn.Parameter(changed.to(table.dtype), requires_grad=False))


def describe_files(model: ModelPatcher) -> str:
    """The files of a MODEL, as far as it knows them, for a message."""
    files = model.get_attachment(FILES)
    if files is None:
        return f"the MODEL ({type(model.model).__name__}, {len(model.patches)} weights changed by LoRA nodes)"
    others = "" if len(files) > 1 or not model.patches else f", {len(model.patches)} weights changed by LoRA nodes"
    return ", ".join(files) + others


def check_model(model: ModelPatcher, name: str) -> None:
    """Raise ``ValueError`` unless the MODEL input ``name`` is a plain Wan2.1 / Wan2.2-14B text-to-video model."""
    network, kind = model.model, type(model.model).__name__
    fix = "Pusa works with Wan2.1 or Wan2.2-14B text-to-video models: load one with Pusa Load"
    if network.model_config.unet_config.get("image_model") != "wan2.1":
        raise ValueError(f"{name} is {kind}, not a Wan model; {fix}")
    check_text_to_video(dict(network.diffusion_model.named_parameters()), name)
    if type(network) is not comfy.model_base.WAN21:
        raise ValueError(f"{name} is {kind}, a Wan model of another kind; {fix}")
    check_flow(model, name, (comfy.model_sampling.CONST,))


def is_text_to_video(model: ModelPatcher) -> bool:
    """Whether a Wan MODEL has the layers of text to video, and no others."""
    try:
        check_text_to_video(dict(model.model.diffusion_model.named_parameters()), "")
    except ValueError:
        return False
    return True


def check_flow(model: ModelPatcher, name: str, kinds: tuple[type, ...]) -> None:
    """Raise ``ValueError`` unless the MODEL input ``name`` has a model sampling of one of these ``kinds``."""
    if not isinstance(model.get_model_object("model_sampling"), kinds):
        raise ValueError(
            f"{name} has a model sampling that is not a rectified flow; remove the node that set it (ModelSamplingSD3 "
            f"is fine)"
        )


def check_refreshable(model: ModelPatcher, name: str, refresh: int) -> None:
    """Raise ``ValueError`` unless the MODEL input ``name`` supports the KV cache for given frames."""
    if not isinstance(model.model.diffusion_model, WanModel):
        raise ValueError(
            f"given_frames_refresh is {refresh}, but {name} was not loaded by Pusa Load, and ComfyUI's own network "
            f"computes all frames at every step; set it to 1, or load {name} with Pusa Load"
        )
