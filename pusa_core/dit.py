"""The Wan diffusion transformer with one timestep per latent frame.

Parameter names and shapes are those of the released Wan2.1 / Wan2.2-14B text-to-video files. The only difference to
the released network is that a timestep may be a vector: frame ``f`` is modulated by its own ``t_f`` (Pusa, arXiv
2507.16116, eq. 6). A frame's modulation is broadcast over the frame's tokens as a view; it is never repeated for each
token.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .attention import Attention, attention
from .config import WanConfig
from .rope import PLAIN, Axes, apply_rope, rope_table

MAX_PERIOD = 10000.0

Operations = Any  # a namespace with Linear, Conv3d, LayerNorm and RMSNorm: torch.nn, or a host's own


def sinusoidal_embedding(timestep: Tensor, dim: int) -> Tensor:
    """Cosines, then sines, of ``timestep [...]`` at ``dim // 2`` frequencies: ``[..., dim]``, fp32."""
    half = dim // 2
    exponent = torch.arange(half, dtype=torch.float32, device=timestep.device) / half
    angle = timestep.float()[..., None] * MAX_PERIOD**-exponent
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``x (1 + scale) + shift`` for ``x [B, F * n, D]`` with one ``shift, scale [B, F, D]`` per frame."""
    frames = x.unflatten(1, (shift.shape[1], -1))  # [B, F, n, D]
    return torch.addcmul(shift.unsqueeze(2), frames, 1 + scale.unsqueeze(2)).flatten(1, 2)


def gated_residual(x: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    """``x + update * gate`` for ``x, update [B, F * n, D]`` with one ``gate [B, F, D]`` per frame."""
    frames = (gate.shape[1], -1)
    return torch.addcmul(x.unflatten(1, frames), update.unflatten(1, frames), gate.unsqueeze(2)).flatten(1, 2)


def initial_modulation(count: int, dim: int, factory: dict[str, Any]) -> nn.Parameter:
    """``count`` learned offsets ``[1, count, dim]``; drawing them without a device would cost PyTorch 75 MB of code."""
    table = torch.empty(1, count, dim, **factory)
    return nn.Parameter(table if table.is_meta else torch.randn_like(table) / dim**0.5)


class WanAttention(nn.Module):
    """Self-attention (with a rotary table) or cross-attention; q and k are RMS-normalised over the full width."""

    def __init__(self, config: WanConfig, *, operations: Operations, **factory: Any) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q = operations.Linear(config.dim, config.dim, **factory)
        self.k = operations.Linear(config.dim, config.dim, **factory)
        self.v = operations.Linear(config.dim, config.dim, **factory)
        self.o = operations.Linear(config.dim, config.dim, **factory)
        self.norm_q = operations.RMSNorm(config.dim, eps=config.eps, **factory)
        self.norm_k = operations.RMSNorm(config.dim, eps=config.eps, **factory)

    def forward(self, x: Tensor, source: Tensor, rope: tuple[Tensor, Tensor] | None, attend: Attention) -> Tensor:
        heads = (self.num_heads, -1)
        q = self.norm_q(self.q(x)).unflatten(-1, heads)
        k = self.norm_k(self.k(source)).unflatten(-1, heads)
        v = self.v(source).unflatten(-1, heads)
        if rope is not None:
            q, k = apply_rope(q, rope), apply_rope(k, rope)
        return self.o(attend(q, k, v))


class WanBlock(nn.Module):
    def __init__(self, config: WanConfig, *, operations: Operations, **factory: Any) -> None:
        super().__init__()
        dim, eps = config.dim, config.eps
        self.norm1 = operations.LayerNorm(dim, eps=eps, elementwise_affine=False, **factory)
        self.self_attn = WanAttention(config, operations=operations, **factory)
        self.norm3 = operations.LayerNorm(dim, eps=eps, elementwise_affine=True, **factory)
        self.cross_attn = WanAttention(config, operations=operations, **factory)
        self.norm2 = operations.LayerNorm(dim, eps=eps, elementwise_affine=False, **factory)
        self.ffn = nn.Sequential(
            operations.Linear(dim, config.ffn_dim, **factory),
            nn.GELU(approximate="tanh"),
            operations.Linear(config.ffn_dim, dim, **factory),
        )
        self.modulation = initial_modulation(6, dim, factory)

    def forward(
        self, x: Tensor, time: Tensor, context: Tensor, rope: tuple[Tensor, Tensor], attend: Attention
    ) -> Tensor:
        """``x [B, F * n, D]``; ``time [B, F, 6, D]``; ``context [B, L, D]``."""
        modulation = self.modulation.to(time).unsqueeze(1) + time
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unbind(2)  # each [B, F, D]
        y = modulate(self.norm1(x), shift1, scale1)
        x = gated_residual(x, self.self_attn(y, y, rope, attend), gate1)
        x = x + self.cross_attn(self.norm3(x), context, None, attend)
        y = self.ffn(modulate(self.norm2(x), shift2, scale2))
        return gated_residual(x, y, gate2)


class WanHead(nn.Module):
    def __init__(self, config: WanConfig, *, operations: Operations, **factory: Any) -> None:
        super().__init__()
        dim, (pf, ph, pw) = config.dim, config.patch_size
        self.norm = operations.LayerNorm(dim, eps=config.eps, elementwise_affine=False, **factory)
        self.head = operations.Linear(dim, pf * ph * pw * config.out_dim, **factory)
        self.modulation = initial_modulation(2, dim, factory)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """``x [B, F * n, D]``; ``time [B, F, D]`` -> ``[B, F * n, voxels of a patch * out_dim]``."""
        shift, scale = (self.modulation.to(time).unsqueeze(1) + time.unsqueeze(2)).unbind(2)
        return self.head(modulate(self.norm(x), shift, scale))


class WanModel(nn.Module):
    """The DiT."""

    def __init__(
        self,
        config: WanConfig,
        *,
        operations: Operations = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        factory = {"device": device, "dtype": dtype}
        dim = config.dim
        patch = config.patch_size
        self.patch_embedding = operations.Conv3d(config.in_dim, dim, kernel_size=patch, stride=patch, **factory)
        self.text_embedding = nn.Sequential(
            operations.Linear(config.text_dim, dim, **factory),
            nn.GELU(approximate="tanh"),
            operations.Linear(dim, dim, **factory),
        )
        self.time_embedding = nn.Sequential(
            operations.Linear(config.freq_dim, dim, **factory), nn.SiLU(), operations.Linear(dim, dim, **factory)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), operations.Linear(dim, 6 * dim, **factory))
        self.blocks = nn.ModuleList(
            WanBlock(config, operations=operations, **factory) for _ in range(config.num_layers)
        )
        self.head = WanHead(config, operations=operations, **factory)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        attend: Attention = attention,
        blocks: Iterable[Callable[..., Tensor]] | None = None,
        rope_axes: Axes = PLAIN,
    ) -> Tensor:
        """Predict the velocity (noise minus clean latents).

        Args:
            latents: ``[B, C, F, H, W]``; H and W divisible by the patch size.
            timestep: ``[B]``, or ``[B, F]`` with one value for each latent frame, in 0..1000 (1000 sigma). Equal
                entries give the bits of the scalar.
            context: text embedding ``[B, L, text_dim]``; padding positions are zero and take part.
            attend: attention kernel.
            blocks: what to call in place of the model's blocks, each like :meth:`WanBlock.forward`.
            rope_axes: scale and shift of the positions of frames, rows and columns.

        Returns:
            Velocity like ``latents``.

        Raises:
            ValueError: shapes that do not fit, with the values.
        """
        timestep = self._check(latents, timestep, context)
        x = self.embed(latents)  # [B, D, F, h, w]
        grid = tuple(x.shape[2:])
        x = x.flatten(2).transpose(1, 2)  # [B, F * h * w, D]
        time = self.time_embedding(sinusoidal_embedding(timestep, self.config.freq_dim).to(x.dtype))  # [B, F, D]
        block_time = self.time_projection(time).unflatten(-1, (6, -1))  # [B, F, 6, D]
        context = self.text_embedding(context)
        rope = rope_table(self.config.head_dim, grid, x.device, rope_axes)
        for block in self.blocks if blocks is None else blocks:
            x = block(x, block_time, context, rope, attend)
        return self._unpatchify(self.head(x, time), grid)

    def embed(self, latents: Tensor) -> Tensor:
        """Tokens ``[B, D, F, h, w]`` of latents, in their dtype; a host may hold this layer in another one."""
        return self.patch_embedding(latents)

    def _check(self, latents: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        """Validate shapes; return the timestep as ``[B, token frames]``."""
        if latents.ndim != 5 or latents.shape[1] != self.config.in_dim:
            raise ValueError(
                f"latents have shape {tuple(latents.shape)}; this model takes [B, {self.config.in_dim}, F, H, W]"
            )
        batch, _, frames, height, width = latents.shape
        pf, ph, pw = self.config.patch_size
        if frames % pf or height % ph or width % pw:
            raise ValueError(
                f"latents of {frames} x {height} x {width} cannot be cut into patches of {pf} x {ph} x {pw}; "
                f"use pixel sizes divisible by {8 * ph}"
            )
        if timestep.ndim == 1:
            timestep = timestep.unsqueeze(1).expand(-1, frames // pf)
        if timestep.shape != (batch, frames // pf):
            raise ValueError(
                f"timestep has shape {tuple(timestep.shape)}; "
                f"give [{batch}] or one value for each latent frame, [{batch}, {frames // pf}]"
            )
        if context.ndim != 3 or context.shape[0] != batch or context.shape[2] != self.config.text_dim:
            raise ValueError(
                f"context has shape {tuple(context.shape)}; this model takes [{batch}, L, {self.config.text_dim}]"
            )
        return timestep

    def _unpatchify(self, x: Tensor, grid: tuple[int, ...]) -> Tensor:
        frames, rows, columns = grid
        pf, ph, pw = self.config.patch_size
        x = x.view(x.shape[0], frames, rows, columns, pf, ph, pw, self.config.out_dim)
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)  # [B, C, F, pf, rows, ph, columns, pw]
        return x.reshape(x.shape[0], self.config.out_dim, frames * pf, rows * ph, columns * pw)
