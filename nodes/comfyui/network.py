"""Our DiT inside a ComfyUI MODEL.

The layers of ComfyUI's own Wan network have the same names as ours, so they are moved into our network once ComfyUI has
loaded them. Everything ComfyUI does to a MODEL (LoRA, offloading, attention backends, wrappers, block patches) keeps
working.
"""

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any

import comfy.ldm.common_dit
import comfy.patcher_extension
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.wan.model import WanModel as NativeWanModel
from torch import Tensor

from ...pusa_core import WanConfig, WanModel
from ...pusa_core.model.attention import Attention, Block
from ...pusa_core.model.axes import rearrange
from ...pusa_core.model.dit import WanBlock
from ...pusa_core.model.kv_cache import FrozenFrames, KVCache
from ...pusa_core.model.rope import Axes

CACHES = "pusa_kv_caches"
"""In ``transformer_options``: the :class:`KVCaches` of a sampling run, or None."""

UNSUPPORTED = ("time_dim_concat", "reference_latent", "context_latents")
"""Arguments of native Wan networks that add tokens, which would misalign the timesteps of the latent frames."""


class KVCaches:
    """One :class:`KVCache` per conditioning of a sampling run. Not a dict, as ComfyUI copies dicts in its options."""

    def __init__(self, frames: FrozenFrames) -> None:
        self._frames = frames
        self._caches: dict[Hashable, KVCache] = {}

    def of(self, conditioning: Hashable) -> KVCache:
        return self._caches.setdefault(conditioning, KVCache(self._frames))


class ComfyWanModel(WanModel):
    """The DiT of ``pusa_core`` with the interface of ComfyUI's Wan network."""

    report = ""  # description of the checkpoint

    def __init__(self, config: WanConfig, dtype: torch.dtype) -> None:
        super().__init__(config, device="meta")
        # attributes that ComfyUI and other packs read from a Wan network
        self.dtype = dtype
        self.patch_size = config.patch_size
        self.dim, self.num_heads, self.num_layers = config.dim, config.num_heads, config.num_layers
        for block in self.modules():
            if isinstance(block, WanBlock):
                block.ffn_tokens = (
                    None  # no chunks: offloaded or quantised weights are fetched or converted at every use
                )

    def embed(self, latents: Tensor) -> Tensor:
        return self.patch_embedding(latents.float()).to(latents.dtype)  # ComfyUI keeps this layer in fp32

    def forward(  # type: ignore[override]  # ComfyUI's signature; ours is ``super().forward``
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
        cache = kv_cache(options)
        if cache is None:
            velocity = self._velocity(options, padded, timestep, context, blocks=self.blocks)
        else:
            velocity = cache.velocity(partial(self._velocity, options), self.blocks, padded, timestep, context)
        return velocity[..., : x.shape[-3], : x.shape[-2], : x.shape[-1]]

    def _velocity(
        self,
        options: dict[str, Any],
        latents: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        blocks: Iterable[Block],
    ) -> Tensor:
        """:meth:`WanModel.forward` with the attention, block patches and RoPE set in ``options``."""
        return super().forward(
            latents,
            timestep,
            context,
            attend=attend_with(options),
            blocks=patched_blocks(blocks, options),
            rope_axes=rope_axes(options.get("rope_options", {})),
        )


def attend_with(options: dict[str, Any]) -> Attention:
    """ComfyUI's attention, with the backend or override set in ``options``."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = q.shape[2]
        q, k, v = (rearrange(x, "b n heads d -> b n (heads d)") for x in (q, k, v))
        return optimized_attention(q, k, v, heads=heads, transformer_options=options)

    return attend


def kv_cache(options: dict[str, Any]) -> KVCache | None:
    """The cache for this call's conditioning, keyed by its prompts and patched blocks.

    None with context windows, where given frames have different positions in every window.
    """
    caches: KVCaches | None = options.get(CACHES)
    if caches is None or options.get("context_window") is not None:
        return None
    patched = options.get("patches_replace", {}).get("dit", {})
    return caches.of((tuple(options.get("uuids", ())), frozenset(patched)))


def rope_axes(options: dict[str, float]) -> Axes:
    """Scale and shift of frame, row and column positions, as set by a node such as Scale ROPE."""
    frames, rows, columns = ((options.get(f"scale_{axis}", 1.0), options.get(f"shift_{axis}", 0.0)) for axis in "tyx")
    return frames, rows, columns


def patched_blocks(blocks: Iterable[Block], options: dict[str, Any]) -> list[Block]:
    """The blocks, wrapped in their patches by other nodes (Skip Layer Guidance, for example)."""
    patches = options.get("patches_replace", {}).get("dit", {})
    return [
        partial(run_patched, block, patches[key], options) if (key := ("double_block", index)) in patches else block
        for index, block in enumerate(blocks)
    ]


def run_patched(
    block: Block,
    patch: Callable[..., dict[str, Any]],
    options: dict[str, Any],
    x: Tensor,
    time: Tensor,
    context: Tensor,
    rope: Tensor,
    attend: Attention,
) -> Tensor:
    """Call a block through a ComfyUI block patch, which takes and returns dictionaries."""

    def original(args: dict[str, Any]) -> dict[str, Any]:
        attend = attend_with(args["transformer_options"])
        return {"img": block(args["img"], args["vec"], args["txt"], args["pe"], attend)}

    args = {"img": x, "txt": context, "vec": time, "pe": rope, "transformer_options": options}
    return patch(args, {"original_block": original})["img"]


def refuse_extra_tokens(arguments: dict[str, Any]) -> None:
    """Raise ``ValueError`` if a conditioning would add tokens to those of the video."""
    for name in UNSUPPORTED:
        if arguments.get(name) is not None:
            raise ValueError(
                f"the conditioning carries {name}, which Pusa cannot combine with one noise level per frame; "
                f"connect a plain text prompt and give pictures with VAE Encode Keyframes"
            )


def adopt(native: NativeWanModel) -> ComfyWanModel:
    """Build our network around the loaded layers of ComfyUI's own Wan network ``native``."""
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
                setattr(module, f"{key}_comfy_model_dtype", dtype)  # newer versions set it on the module itself
    return ours.eval().requires_grad_(False)
