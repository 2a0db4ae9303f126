"""The arithmetic of the public Pusa implementation, as a baseline.

Reimplemented from its formulas: modulation vectors are repeated for all tokens of their frame, and rotary embedding
multiplies complex128 numbers. Weights have the names of ``pusa_core``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pusa_core import WanConfig

Weights = dict[str, Tensor]


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    full = x.float()
    return (full * torch.rsqrt(full.pow(2).mean(dim=-1, keepdim=True) + eps)).to(x.dtype) * weight


def frequencies(head_dim: int, grid: tuple[int, int, int], device: torch.device) -> Tensor:
    """Complex128 rotations ``[N, 1, head_dim // 2]``."""
    spatial = head_dim // 3
    parts = []
    for axis, (length, width) in enumerate(zip(grid, (head_dim - 2 * spatial, spatial, spatial), strict=True)):
        angle = torch.outer(
            torch.arange(length, dtype=torch.float64),
            10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64)[: width // 2] / width),
        )
        shape = [1, 1, 1, -1]
        shape[axis] = length
        parts.append(torch.polar(torch.ones_like(angle), angle).view(shape).expand(*grid, -1))
    return torch.cat(parts, dim=-1).reshape(-1, 1, head_dim // 2).to(device)


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """``x [B, N, heads, d]``."""
    pairs = torch.view_as_complex(x.to(torch.float64).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotations).flatten(-2).to(x.dtype)


class Reference(torch.nn.Module):
    """``forward(latents [B, C, F, H, W], timestep [B, F], context [B, L, text_dim])``."""

    def __init__(self, config: WanConfig, weights: Weights) -> None:
        super().__init__()
        self.config = config
        self.weights = weights
        self.rotations: dict[tuple[int, int, int], Tensor] = {}

    def attend(self, name: str, x: Tensor, source: Tensor, rotations: Tensor | None) -> Tensor:
        w, heads = self.weights, (self.config.num_heads, -1)
        q = rms_norm(linear(w, f"{name}.q", x), w[f"{name}.norm_q.weight"], self.config.eps).unflatten(-1, heads)
        k = rms_norm(linear(w, f"{name}.k", source), w[f"{name}.norm_k.weight"], self.config.eps).unflatten(-1, heads)
        v = linear(w, f"{name}.v", source).unflatten(-1, heads)
        if rotations is not None:
            q, k = rotate(q, rotations), rotate(k, rotations)
        out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return linear(w, f"{name}.o", out.transpose(1, 2).flatten(2))

    def norm(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.config.dim,), eps=self.config.eps)

    def block(self, name: str, x: Tensor, time: Tensor, context: Tensor, rotations: Tensor) -> Tensor:
        """``time [B, 6, N, D]``."""
        w = self.weights
        modulation = w[f"{name}.modulation"].unsqueeze(2) + time
        shift1, scale1, gate1, shift2, scale2, gate2 = (part.squeeze(1) for part in modulation.chunk(6, dim=1))
        y = self.norm(x) * (1 + scale1) + shift1
        x = x + gate1 * self.attend(f"{name}.self_attn", y, y, rotations)
        y = F.layer_norm(x, (self.config.dim,), w[f"{name}.norm3.weight"], w[f"{name}.norm3.bias"], eps=self.config.eps)
        x = x + self.attend(f"{name}.cross_attn", y, context, None)
        y = self.norm(x) * (1 + scale2) + shift2
        y = linear(w, f"{name}.ffn.2", F.gelu(linear(w, f"{name}.ffn.0", y), approximate="tanh"))
        return x + gate2 * y

    def forward(self, latents: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        w, config = self.weights, self.config
        x = F.conv3d(latents, w["patch_embedding.weight"], w["patch_embedding.bias"], stride=config.patch_size)
        grid = (x.shape[2], x.shape[3], x.shape[4])
        tokens = grid[1] * grid[2]
        x = x.flatten(2).transpose(1, 2).contiguous()
        if grid not in self.rotations:
            self.rotations[grid] = frequencies(config.head_dim, grid, x.device)
        half = config.freq_dim // 2
        exponent = -torch.arange(half, dtype=torch.float64, device=x.device) / half
        angle = torch.outer(timestep.flatten().to(torch.float64), 10000.0**exponent)
        sinusoid = torch.cat([angle.cos(), angle.sin()], dim=1).to(x.dtype).view(*timestep.shape, -1)
        time = linear(w, "time_embedding.2", F.silu(linear(w, "time_embedding.0", sinusoid)))  # [B, F, D]
        block_time = linear(w, "time_projection.1", F.silu(time)).unflatten(2, (6, -1))  # [B, F, 6, D]
        # repeated per token: [B, N, D] and [B, 6, N, D]
        time = time.unsqueeze(2).repeat(1, 1, tokens, 1).flatten(1, 2)
        block_time = block_time.unsqueeze(2).repeat(1, 1, tokens, 1, 1).flatten(1, 2).transpose(1, 2).contiguous()
        context = linear(w, "text_embedding.2", F.gelu(linear(w, "text_embedding.0", context), approximate="tanh"))
        for index in range(config.num_layers):
            x = self.block(f"blocks.{index}", x, block_time, context, self.rotations[grid])
        shift, scale = (part.squeeze(1) for part in (w["head.modulation"].unsqueeze(2) + time.unsqueeze(1)).chunk(2, 1))
        x = linear(w, "head.head", self.norm(x) * (1 + scale) + shift)
        pf, ph, pw = config.patch_size
        x = x.view(x.shape[0], *grid, pf, ph, pw, config.out_dim).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.reshape(x.shape[0], config.out_dim, *latents.shape[2:])
