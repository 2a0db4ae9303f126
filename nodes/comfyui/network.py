"""Our DiT inside a ComfyUI MODEL.

The layers of ComfyUI's own Wan network have the names that ours have, so they move over into our network once ComfyUI
has loaded them. Everything ComfyUI does to a MODEL (LoRA, offload, attention backends, wrappers, patches of blocks)
goes on working.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import comfy.ldm.common_dit
import comfy.patcher_extension
import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor, nn

from ...pusa_core import WanConfig, WanModel
from ...pusa_core.model.attention import Attention
from ...pusa_core.model.kv_cache import GivenFrames, KeptFrames
from ...pusa_core.model.rope import Axes

GIVEN_KEY = "pusa_given_frames"
"""In ``transformer_options``: the :class:`GivenFrames` of a sampling run that does not compute them at every step."""

UNSUPPORTED = ("time_dim_concat", "reference_latent", "context_latents")
"""Arguments of native Wan networks that add tokens; one timestep per latent frame would then hit the wrong tokens."""


class ComfyWanModel(WanModel):
    """``pusa_core``'s DiT, called the way ComfyUI calls a Wan network."""

    report = ""  # what its file was recognised as

    def __init__(self, config: WanConfig, dtype: torch.dtype) -> None:
        super().__init__(config, device="meta")
        # What ComfyUI and other packs read from a Wan network.
        self.dtype = dtype
        self.patch_size = config.patch_size
        self.dim, self.num_heads, self.num_layers = config.dim, config.num_heads, config.num_layers
        for block in self.blocks:
            block.ffn_tokens = None  # offloaded and quantised weights are fetched or converted at every use

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

        options = {} if transformer_options is None else transformer_options
        padded = comfy.ldm.common_dit.pad_to_patch_size(x, self.patch_size)
        velocity = super().forward(
            padded,
            timestep,
            context,
            attend=attend_with(options),
            blocks=patched_blocks(self.blocks, options),
            rope_axes=rope_axes(options.get("rope_options", {})),
            kept=kept_frames(options),
        )
        return velocity[..., : x.shape[-3], : x.shape[-2], : x.shape[-1]]


def attend_with(options: dict[str, Any]) -> Attention:
    """ComfyUI's attention, whichever backend or override ``options`` ask for."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = q.shape[2]
        return optimized_attention(q.flatten(2), k.flatten(2), v.flatten(2), heads=heads, transformer_options=options)

    return attend


def kept_frames(options: dict[str, Any]) -> KeptFrames | None:
    """What a sampling run keeps of this pass: that of the same prompts, with the same blocks patched.

    With context windows nothing is kept: the given frames have other positions in every window.
    """
    run: GivenFrames | None = options.get(GIVEN_KEY)
    if run is None or options.get("context_window") is not None:
        return None
    patched = options.get("patches_replace", {}).get("dit", {})
    return run.of_pass((tuple(options.get("uuids", ())), frozenset(patched)))


def rope_axes(options: dict[str, float]) -> Axes:
    """Scale and shift of the positions of frames, rows and columns that a node (Scale ROPE) asks for."""
    frames, rows, columns = ((options.get(f"scale_{axis}", 1.0), options.get(f"shift_{axis}", 0.0)) for axis in "tyx")
    return frames, rows, columns


def patched_blocks(blocks: Iterable[nn.Module], options: dict[str, Any]) -> list[Callable[..., Tensor]]:
    """The blocks, each behind the patch that a node (Skip Layer Guidance, for example) put in its place."""
    patches = options.get("patches_replace", {}).get("dit", {})
    return [
        partial(run_patched, block, patches[key], options) if (key := ("double_block", index)) in patches else block
        for index, block in enumerate(blocks)
    ]


def run_patched(
    block: nn.Module,
    patch: Callable[..., dict[str, Any]],
    options: dict[str, Any],
    x: Tensor,
    time: Tensor,
    context: Tensor,
    rope: Tensor,
    attend: Attention,
    self_attend: Attention | None = None,
) -> Tensor:
    """A block as ComfyUI's patches of blocks see one: a dictionary in, a dictionary out."""

    def original(args: dict[str, Any]) -> dict[str, Any]:
        attend = attend_with(args["transformer_options"])
        return {"img": block(args["img"], args["vec"], args["txt"], args["pe"], attend, self_attend)}

    args = {"img": x, "txt": context, "vec": time, "pe": rope, "transformer_options": options}
    return patch(args, {"original_block": original})["img"]


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
