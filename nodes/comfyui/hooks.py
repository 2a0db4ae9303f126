"""What other nodes hang into ComfyUI's Wan network, called where our own network does the same.

The hooks are ComfyUI's: ``patches`` and ``patches_replace`` in ``transformer_options``, the keys there that tell a hook
where it is, and object patches, which put another function in the place of a layer's ``forward``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from comfy.ldm.wan import model as native
from torch import Tensor, nn

from ...pusa_core.model.attention import Attention, Block
from ...pusa_core.model.axes import rearrange
from ...pusa_core.model.dit import WanModel, sinusoidal_embedding
from ...pusa_core.model.kv_cache import KVCache
from ...pusa_core.model.modulation import Vectors
from .network import CACHES, KVCaches

Options = dict[str, Any]
"""ComfyUI's ``transformer_options``: one dict for all the layers of a call, written to on the way."""

SELF_ATTENTION = "pusa_self_attention"
"""In ``transformer_options``: what runs in place of a block's self-attention, where a KV cache wraps it."""


@dataclass(frozen=True)
class HostAttention:
    """ComfyUI's attention, with the backend or override that ``options`` name.

    ``layer``: in newer versions every layer may prefer a backend of its own, held by a child module.
    """

    options: Options
    layer: nn.Module

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = q.shape[2]
        q, k, v = (rearrange(x, "b n heads d -> b n (heads d)") for x in (q, k, v))
        preferred = getattr(self.layer, "comfy_attention", None)
        known = {} if preferred is None else {"preferred_attention": preferred}  # older versions reject the argument
        return native.optimized_attention(q, k, v, heads=heads, transformer_options=self.options, **known)


def patches_of(options: Options, name: str) -> list[Callable[[dict[str, Any]], Any]]:
    return options.get("patches", {}).get(name, [])


def foreign_method(module: nn.Module, name: str = "forward") -> Callable[..., Any] | None:
    """The method that another node has put in the place of the module's own, or None.

    It is not enough to look for an attribute: ComfyUI puts the method it had replaced back as an attribute.
    """
    method = vars(module).get(name)
    return None if getattr(method, "__func__", method) in (None, getattr(type(module), name)) else method


def call_layer(layer: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
    """The output of ``layer``, which may be overwritten: a foreign function may keep its own for another step."""
    y = layer(*args, **kwargs)
    return y if foreign_method(layer) is None else y.clone()


def kv_cache(network: WanModel, options: Options) -> KVCache | None:
    """The cache for this call's conditioning, keyed by its prompts and patched blocks.

    None with context windows, where given frames have different positions in every window, and with other nodes'
    functions on tokens, which may rely on the tokens of all frames.
    """
    caches: KVCaches | None = options.get(CACHES)
    if caches is None or options.get("context_window") is not None or reads_tokens(network, options):
        return None
    patched = options.get("patches_replace", {}).get("dit", {})
    return caches.of((tuple(options.get("uuids", ())), frozenset(patched)))


def reads_tokens(network: WanModel, options: Options) -> bool:
    if any(patches_of(options, name) for name in ("double_block", "attn1_patch", "attn2_patch")):
        return True
    layers = (block.get_submodule(name) for block in network.blocks for name in ("", "self_attn"))
    return any(foreign_method(layer) is not None for layer in layers)


def call_block(
    block: nn.Module,
    x: Tensor,
    time: Tensor | Vectors,
    context: Tensor,
    rope: Tensor,
    attend: HostAttention,
    self_attend: Attention | None = None,
) -> Tensor:
    """A block called as the native network calls its own, so that a function of another pack may stand for it.

    ``rope``: rotations ``[N, 1, head_dim // 2, 2, 2]``, to which the native form adds a dimension in front.
    """
    options = attend.options if self_attend is None else {**attend.options, SELF_ATTENTION: self_attend}
    return block(x, e=time, freqs=rope.unsqueeze(0), context=context, context_img_len=None, transformer_options=options)


@dataclass
class Pass:
    """One call of the network: its inputs, and the hooks around blocks in the places where the native one has them.

    ``freqs``: rotations of the tokens of all frames.
    """

    network: WanModel
    latents: Tensor
    timestep: Tensor
    freqs: Tensor
    options: Options

    def blocks(self) -> list[Block]:
        return [partial(call_block, block) for block in self.network.blocks]

    def velocity(self, latents: Tensor, timestep: Tensor, context: Tensor, *, blocks: Iterable[Block]) -> Tensor:
        """:meth:`WanModel.forward` with the hooks around the blocks."""
        patch, sizes = self.network.config.patch_size, latents.shape[2:]
        self.options["grid_sizes"] = torch.Size(size // part for size, part in zip(sizes, patch, strict=True))
        self.options["total_blocks"] = len(self.network.blocks)
        self.options["block_type"] = "double"
        hooked = [partial(self.run_block, index, block) for index, block in enumerate(blocks)]
        return WanModel.forward(self.network, latents, timestep, context, blocks=hooked)

    def run_block(
        self, index: int, block: Block, x: Tensor, time: Tensor | Vectors, context: Tensor, *_: Any
    ) -> Tensor:
        """A block with its hooks. The plain rotary table and attention that it is also called with are not used."""
        layer = self.network.blocks[index].get_submodule("self_attn")

        def original(args: dict[str, Any]) -> dict[str, Any]:
            attend = HostAttention(args["transformer_options"], layer)
            return {"img": block(args["img"], args["vec"], args["txt"], args["pe"][0], attend)}

        self.options["block_index"] = index
        args = {"img": x, "txt": context, "vec": time, "pe": self.freqs, "transformer_options": self.options}
        replaced = self.options.get("patches_replace", {}).get("dit", {}).get(("double_block", index))
        x = (original(args) if replaced is None else replaced(args, {"original_block": original}))["img"]
        for patch in patches_of(self.options, "double_block"):
            where = {"x": self.latents, "block_index": index, "img_offset": 0, "transformer_options": self.options}
            x = patch({"img": x, "vec": self.embedded_time(x), **where})["img"]
        return x

    def embedded_time(self, x: Tensor) -> Tensor:
        """The embedding ``[B, F or 1, D]`` of the timestep before its projection: patches get it, blocks do not."""
        angles = sinusoidal_embedding(self.timestep.reshape(len(x), -1), self.network.config.freq_dim)
        return self.network.time_embedding(angles.to(x.dtype))
