"""The measured networks, all with the interface ``network(latents, timestep [B, F], context)`` and the same weights."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pusa_core import WanConfig, WanModel
from pusa_core.model.fast_arithmetic import use_8bit_products, use_attention

Weights = dict[str, Tensor]
Network = Callable[[Tensor, Tensor, Tensor], Tensor]


def build_pusa(config: WanConfig, weights: Weights) -> WanModel:
    with torch.device("meta"):
        model = WanModel(config)
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


def build_reference(config: WanConfig, weights: Weights) -> Network:
    from benchmarks.reference import Reference

    return Reference(config, weights)


def build_diffusers(config: WanConfig, weights: Weights) -> Network:
    """diffusers' network, which supports unequal timesteps as one per token."""
    from diffusers import WanTransformer3DModel
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    with torch.device("meta"):
        model = WanTransformer3DModel(
            patch_size=config.patch_size,
            num_attention_heads=config.num_heads,
            attention_head_dim=config.head_dim,
            in_channels=config.in_dim,
            out_channels=config.out_dim,
            text_dim=config.text_dim,
            freq_dim=config.freq_dim,
            ffn_dim=config.ffn_dim,
            num_layers=config.num_layers,
            eps=config.eps,
        )
    rope = WanTransformer3DModel(  # the RoPE tables are buffers, which must not stay on the meta device
        num_attention_heads=config.num_heads, attention_head_dim=config.head_dim, num_layers=0, ffn_dim=8, text_dim=8
    ).rope
    model.rope = rope.to(next(iter(weights.values())).device)
    model.load_state_dict(convert_wan_transformer_to_diffusers(dict(weights)), assign=True)
    model.eval().requires_grad_(False)

    def network(latents: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        _, ph, pw = config.patch_size
        if timestep.ndim == 2:
            timestep = timestep.repeat_interleave(latents.shape[3] // ph * (latents.shape[4] // pw), dim=1)
        return model(latents, timestep, context, return_dict=False)[0]

    return network


def build_comfyui(config: WanConfig, weights: Weights) -> Network:
    """ComfyUI's own Wan network; requires ComfyUI's Python, in its folder."""
    import comfy.ldm.wan.model
    import comfy.ops

    sample = next(iter(weights.values()))
    settings: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("dim", "ffn_dim", "num_heads", "num_layers", "in_dim", "out_dim", "text_dim", "freq_dim", "eps")
    }
    model = comfy.ldm.wan.model.WanModel(
        model_type="t2v", **settings, device=sample.device, dtype=sample.dtype, operations=comfy.ops.manual_cast
    )
    model.load_state_dict(weights)
    model.eval().requires_grad_(False)
    return lambda latents, timestep, context: model(latents, timestep, context, transformer_options={})


class Limit(torch.nn.Module):
    """Only the matmuls and attention of a step, at the same shapes: a lower bound. Its output is meaningless."""

    def __init__(self, config: WanConfig, weights: Weights) -> None:
        super().__init__()
        self.config = config
        self.weights = weights

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def attend(self, name: str, x: Tensor, source: Tensor) -> Tensor:
        q, k, v = (
            self.linear(f"{name}.{part}", part_of).unflatten(-1, (self.config.num_heads, -1)).transpose(1, 2)
            for part, part_of in (("q", x), ("k", source), ("v", source))
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.linear(f"{name}.o", out.transpose(1, 2).flatten(2))

    def time(self, timestep: Tensor) -> Tensor:
        sinusoid = timestep.to(self.weights["head.modulation"].dtype)[..., None].expand(-1, -1, self.config.freq_dim)
        time = self.linear("time_embedding.2", self.linear("time_embedding.0", sinusoid))
        return self.linear("time_projection.1", time)

    def text(self, context: Tensor) -> Tensor:
        return self.linear("text_embedding.2", self.linear("text_embedding.0", context))

    def text_keys(self, context: Tensor) -> None:
        """The computation that caching the text's keys and values would save."""
        text = self.text(context)
        for index in range(self.config.num_layers):
            for part in ("k", "v"):
                self.linear(f"blocks.{index}.cross_attn.{part}", text)

    def forward(self, latents: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        weights = self.weights
        patch = self.config.patch_size
        x = F.conv3d(latents, weights["patch_embedding.weight"], weights["patch_embedding.bias"], stride=patch)
        x = x.flatten(2).transpose(1, 2).contiguous()
        self.time(timestep)
        text = self.text(context)
        for index in range(self.config.num_layers):
            self.attend(f"blocks.{index}.self_attn", x, x)
            self.attend(f"blocks.{index}.cross_attn", x, text)
            self.linear(f"blocks.{index}.ffn.2", self.linear(f"blocks.{index}.ffn.0", x))
        return self.linear("head.head", x)


BUILD: dict[str, Callable[[WanConfig, Weights], Network]] = {
    "limit": Limit,
    "pusa": build_pusa,
    "comfyui": build_comfyui,
    "reference": build_reference,
    "diffusers": build_diffusers,
}


def build_sage(config: WanConfig, weights: Weights) -> WanModel:
    model = build_pusa(config, weights)
    use_attention(model, "sage")
    return model


def build_fp8(config: WanConfig, weights: Weights) -> WanModel:
    model = build_pusa(config, weights)
    use_8bit_products(model, "fp8")
    return model


def build_sage_fp8(config: WanConfig, weights: Weights) -> WanModel:
    model = build_sage(config, weights)
    use_8bit_products(model, "fp8")
    return model


EIGHT_BIT: dict[str, Callable[[WanConfig, Weights], Network]] = {
    "8-bit attention": build_sage,
    "fp8 products": build_fp8,
    "8-bit attention, fp8 products": build_sage_fp8,
}
"""This project's network, faster and less exact."""


def arithmetic(config: WanConfig, tokens: int, frames: int, text: int) -> float:
    """FLOPs of the matmuls and attention of a step."""
    d, hidden = config.dim, config.ffn_dim
    block = 2 * tokens * (6 * d * d + 2 * d * hidden) + 2 * text * 2 * d * d + 4 * tokens * (tokens + text) * d
    patch = config.patch_size[0] * config.patch_size[1] * config.patch_size[2]
    ends = 2 * tokens * d * patch * (config.in_dim + config.out_dim) + 2 * text * (config.text_dim + d) * d
    time = 2 * frames * (config.freq_dim * d + 7 * d * d)
    return float(config.num_layers * block + ends + time)
