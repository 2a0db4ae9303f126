"""How other packs hang their functions into ComfyUI's Wan network: one small example of every way.

``PATTERNS[name](model)`` changes a MODEL as a node would, which has cloned it.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from comfy.ldm.flux.layers import EmbedND
from comfy.ldm.flux.math import apply_rope1, rope
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.wan.model import sinusoidal_embedding_1d
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

Options = dict[str, Any]
Pattern = Callable[[ModelPatcher], None]


def replace_in_blocks(model: ModelPatcher, layer: str, make: Callable[[nn.Module], Callable[..., Any]]) -> None:
    """Object patches of ``forward``, as bound methods of the layers, in every block."""
    for index, block in enumerate(model.get_model_object("diffusion_model").blocks):
        name = f"{layer}.forward" if layer else "forward"
        function = make(block.get_submodule(layer))
        model.add_object_patch(
            f"diffusion_model.blocks.{index}.{name}", MethodType(function, block.get_submodule(layer))
        )


def second_prompt(model: ModelPatcher) -> None:
    """Guidance within the cross-attention, by a second prompt that the node has embedded."""
    network = model.get_model_object("diffusion_model")
    other = network.text_embedding(torch.ones(1, 5, 4096) / 8)

    def forward(self: Any, x: Tensor, context: Tensor, transformer_options: Options, **kwargs: Any) -> Tensor:
        q = self.norm_q(self.q(x))
        outputs = []
        for text in (context, other.expand(len(x), -1, -1)):
            k, v = self.norm_k(self.k(text)), self.v(text)
            outputs.append(optimized_attention(q, k, v, heads=self.num_heads, transformer_options=transformer_options))
        return self.o(outputs[0] * 5 - outputs[1] * 4)

    replace_in_blocks(model, "cross_attn", lambda layer: forward)


def scaled_by_frames(model: ModelPatcher) -> None:
    """Self-attention written anew, with a factor from the attention between frames."""

    def forward(self: Any, x: Tensor, freqs: Tensor, transformer_options: Options) -> Tensor:
        batch, tokens, heads, width = *x.shape[:2], self.num_heads, self.head_dim
        q = apply_rope1(self.norm_q(self.q(x)).view(batch, tokens, heads, width), freqs)
        k = apply_rope1(self.norm_k(self.k(x)).view(batch, tokens, heads, width), freqs)
        flat = (each.reshape(batch, tokens, heads * width) for each in (q, k, self.v(x)))
        y = optimized_attention(*flat, heads=heads, transformer_options=transformer_options)
        frames = transformer_options["frames_of_video"]
        first, second = (each.view(batch, frames, -1, heads, width).mean(2) for each in (q, k))
        return self.o(y) * (2 + (first * second).sum(-1).mean().tanh())

    model.model_options["transformer_options"]["frames_of_video"] = 3
    replace_in_blocks(model, "self_attn", lambda layer: forward)


def around(layer: str) -> Pattern:
    """A function around the layer's own ``forward``."""

    def pattern(model: ModelPatcher) -> None:
        def make(module: nn.Module) -> Callable[..., Tensor]:
            original = module.forward
            return lambda self, *args, **kwargs: 1.5 * original(*args, **kwargs)

        replace_in_blocks(model, layer, make)

    return pattern


def kept_output(model: ModelPatcher) -> None:
    """Attention computed in every other step only."""
    kept: dict[int, Tensor] = {}

    def make(module: nn.Module) -> Callable[..., Tensor]:
        original, calls = module.forward, []

        def forward(self: Any, *args: Any, **kwargs: Any) -> Tensor:
            calls.append(1)
            if len(calls) % 2:
                kept[id(self)] = original(*args, **kwargs)
            return kept[id(self)]

        return forward

    replace_in_blocks(model, "self_attn", make)


def chunked_ffn(model: ModelPatcher) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return torch.cat([self[2](torch.relu(self[0](part))) for part in x.chunk(2, dim=1)], dim=1)

    replace_in_blocks(model, "ffn", lambda layer: forward)


class SlowFrames(nn.Module):
    """Rotary embedding with one frequency of the frame axis replaced, as for videos longer than those of training."""

    def __init__(self, plain: EmbedND) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, ids: Tensor) -> Tensor:
        parts = [rope(ids[..., i], width, self.plain.theta) for i, width in enumerate(self.plain.axes_dim)]
        parts[0][..., 0, :, :] = rope(ids[..., 0] * 0.4, 2, self.plain.theta)[..., 0, :, :]
        return torch.cat(parts, dim=-3).unsqueeze(1)


def other_positions(model: ModelPatcher) -> None:
    embedder = model.get_model_object("diffusion_model").rope_embedder
    model.add_object_patch("diffusion_model.rope_embedder", SlowFrames(embedder))


def double_block(model: ModelPatcher) -> None:
    """A control network beside the blocks, which gets the latents and the time embedding too."""

    def patch(args: dict[str, Any]) -> dict[str, Any]:
        shift = args["x"].mean() + args["vec"].float().mean() + args["block_index"] + args["img_offset"]
        return {"img": args["img"] * (1 + shift / 4)}

    model.set_model_patch(patch, "double_block")


def attention_patches(model: ModelPatcher) -> None:
    """A map from the self-attention, used behind the cross-attention."""

    def attn1(args: dict[str, Any]) -> Tensor:
        options = args["transformer_options"]
        frames = options["grid_sizes"][0]
        options["seen"] = (args["q"] * args["k"]).unflatten(1, (frames, -1)).mean().tanh()
        return args["x"]

    def attn2(args: dict[str, Any]) -> Tensor:
        options = args["transformer_options"]
        return args["x"] * (1.5 + options.pop("seen") + options["block_index"] / options["total_blocks"])

    model.set_model_patch(attn1, "attn1_patch")
    model.set_model_patch(attn2, "attn2_patch")


def replaced_block(model: ModelPatcher) -> None:
    """The difference that a block makes, taken from its input and output and doubled."""

    def patch(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        return {"img": extra["original_block"](args)["img"] * 2 - args["img"]}

    model.set_model_patch_replace(patch, "dit", "double_block", 1)


def attention_by_block(model: ModelPatcher) -> None:
    """Another attention in some blocks, which knows the grid of tokens."""

    def override(
        attention: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        options = kwargs["transformer_options"]
        y = attention(q, k, v, *args, **kwargs)
        last = options["block_index"] == options["total_blocks"] - 1 and options["block_type"] == "double"
        return y * (1 + options["grid_sizes"][0]) if last and q.shape == k.shape else y

    model.model_options["transformer_options"]["optimized_attention_override"] = override


def own_forward(
    self: Any, x: Tensor, t: Tensor, context: Tensor, freqs: Tensor, transformer_options: Options, **kwargs: Any
) -> Tensor:
    """The pass through the network written anew, with the change made by its blocks scaled; a timestep per frame."""
    tokens = self.patch_embedding(x.float()).to(x.dtype)
    grid = tokens.shape[2:]
    tokens = start = tokens.flatten(2).transpose(1, 2)
    e = self.time_embedding(sinusoidal_embedding_1d(self.freq_dim, t.flatten()).to(x.dtype)).reshape(
        len(x), -1, self.dim
    )
    e0 = self.time_projection(e).unflatten(2, (6, self.dim))
    text = self.text_embedding(context)
    for block in self.blocks:
        tokens = block(
            tokens, e=e0, freqs=freqs, context=text, context_img_len=None, transformer_options=transformer_options
        )
    return self.unpatchify(self.head(start + (tokens - start) * 1.5, e), grid)


def forward_written_anew(model: ModelPatcher) -> None:
    network = model.get_model_object("diffusion_model")
    model.add_object_patch("diffusion_model.forward_orig", MethodType(own_forward, network))


def step_cache(
    self: Any, x: Tensor, t: Tensor, context: Tensor, freqs: Tensor, transformer_options: Options, **kwargs: Any
) -> Tensor:
    """The same with one timestep for the whole video, as caches of steps were written for earlier versions."""
    e = self.time_embedding(sinusoidal_embedding_1d(self.freq_dim, t).to(x.dtype))
    return own_forward(self, x, t, context, freqs, transformer_options) + e.mean()


def one_timestep(model: ModelPatcher) -> None:
    network = model.get_model_object("diffusion_model")
    model.add_object_patch("diffusion_model.forward_orig", MethodType(step_cache, network))


PATTERNS: dict[str, Pattern] = {
    "cross_attn.forward": second_prompt,
    "self_attn.forward": scaled_by_frames,
    "around self_attn.forward": around("self_attn"),
    "around cross_attn.forward": around("cross_attn"),
    "around blocks.N.forward": around(""),
    "self_attn.forward that keeps its output": kept_output,
    "ffn.forward": chunked_ffn,
    "rope_embedder": other_positions,
    "double_block": double_block,
    "attn1_patch, attn2_patch": attention_patches,
    "patches_replace": replaced_block,
    "optimized_attention_override": attention_by_block,
    "forward_orig": forward_written_anew,
}
REFUSED = one_timestep
