"""The Wan diffusion transformer with one timestep per latent frame.

Parameter names and shapes are those of the released Wan2.1 / Wan2.2-14B text-to-video files. The only difference to
the released network is that a timestep may be a vector: frame ``f`` is modulated by its own ``t_f`` (Pusa, arXiv
2507.16116, eq. 6). Time is embedded once for each frame, not for each token; to look for frames of equal time would
make a GPU wait for the host, and there are at most a few dozen.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .attention import Attention, attention
from .config import WanConfig
from .elementwise import FeedForward, gated_residual, may_overwrite, modulate, residual
from .kv_cache import KeptFrames
from .rope import PLAIN, Axes, apply_rope, rope_table

MAX_PERIOD = 10000.0
FFN_TOKENS = 8192  # enough to keep a GPU busy

Operations = Any  # a namespace with Linear, Conv3d, LayerNorm and RMSNorm: torch.nn, or a host's own


def sinusoidal_embedding(timestep: Tensor, dim: int) -> Tensor:
    """Cosines, then sines, of ``timestep [...]`` at ``dim // 2`` frequencies: ``[..., dim]``, fp32."""
    half = dim // 2
    exponent = torch.arange(half, dtype=torch.float32, device=timestep.device) / half
    angle = timestep.float()[..., None] * MAX_PERIOD**-exponent
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


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

    def forward(self, x: Tensor, source: Tensor | None, rope: Tensor | None, attend: Attention) -> Tensor:
        """``source``: where keys and values come from; by default ``x``."""
        source, heads = x if source is None else source, (self.num_heads, -1)
        q = self.norm_q(self.q(x)).unflatten(-1, heads)
        if rope is not None:
            q = apply_rope(q, rope)
        k = self.norm_k(self.k(source)).unflatten(-1, heads)
        if rope is not None:
            k = apply_rope(k, rope)
        v = self.v(source).unflatten(-1, heads)  # after the others' temporary memory is free again
        return self.o(attend(q, k, v))


class WanBlock(nn.Module):
    ffn_tokens: int | None = FFN_TOKENS
    """Tokens, in whole frames, that go through the feed-forward layer at a time without autograd; None: all of them."""

    def __init__(self, config: WanConfig, *, operations: Operations, **factory: Any) -> None:
        super().__init__()
        dim, eps = config.dim, config.eps
        self.norm1 = operations.LayerNorm(dim, eps=eps, elementwise_affine=False, **factory)
        self.self_attn = WanAttention(config, operations=operations, **factory)
        self.norm3 = operations.LayerNorm(dim, eps=eps, elementwise_affine=True, **factory)
        self.cross_attn = WanAttention(config, operations=operations, **factory)
        self.norm2 = operations.LayerNorm(dim, eps=eps, elementwise_affine=False, **factory)
        self.ffn = FeedForward(
            operations.Linear(dim, config.ffn_dim, **factory),
            nn.GELU(approximate="tanh"),
            operations.Linear(config.ffn_dim, dim, **factory),
        )
        self.modulation = initial_modulation(6, dim, factory)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        context: Tensor,
        rope: Tensor,
        attend: Attention,
        self_attend: Attention | None = None,
    ) -> Tensor:
        """``x [B, F * n, D]``; ``time [B, F, 6, D]``; ``context [B, L, D]``; ``rope`` from :func:`rope_table`.

        ``self_attend``: another kernel for the attention among the tokens, which may see more of them than ``x``.
        """
        modulation = self.modulation.to(time).unsqueeze(1) + time
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unbind(2)  # each [B, F, D]
        among = self_attend or attend
        # no names for what is between: it would stay in memory
        x = gated_residual(x, self.self_attn(modulate(self.norm1(x), shift1, scale1), None, rope, among), gate1)
        x = residual(x, self.cross_attn(self.norm3(x), context, None, attend))
        if not may_overwrite():
            return gated_residual(x, self.feed_forward(x, shift2, scale2), gate2)
        frames = time.shape[1]
        count = frames if self.ffn_tokens is None else max(1, self.ffn_tokens * frames // x.shape[1])
        for part in (slice(first, first + count) for first in range(0, frames, count)):
            view = x.unflatten(1, (frames, -1))[:, part]
            y = self.feed_forward(view.flatten(1, 2), shift2[:, part], scale2[:, part])
            view.addcmul_(y.view_as(view), gate2[:, part].unsqueeze(2))
        return x

    def feed_forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return self.ffn(modulate(self.norm2(x), shift, scale))


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
        dim, patch = config.dim, config.patch_size
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
        frames: tuple[int, ...] | None = None,
        self_attend: Attention | None = None,
        kept: KeptFrames | None = None,
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
            frames: where the latent frames are in the video; by default at 0, 1, 2, ...
            self_attend: another kernel for the attention among the tokens.
            kept: keys and values of given frames; only the other frames are computed in most steps then.

        Returns:
            Velocity like ``latents``.

        Raises:
            ValueError: shapes that do not fit, with the values.
        """
        timestep = self._check(latents, timestep, context)
        blocks = self.blocks if blocks is None else blocks
        if kept is not None:
            network = partial(WanModel.forward, self, attend=attend, rope_axes=rope_axes)
            return kept.velocity(network, blocks, self_attend or attend, latents, timestep, context)
        x = self.embed(latents)  # [B, D, F, h, w]
        grid = (x.shape[2], x.shape[3], x.shape[4])
        x = x.flatten(2).transpose(1, 2).contiguous()  # [B, F * h * w, D]
        time = self.time_embedding(sinusoidal_embedding(timestep, self.config.freq_dim).to(x.dtype))  # [B, F, D]
        block_time = self.time_projection(time).unflatten(-1, (6, -1))  # [B, F, 6, D]
        context = self.text_embedding(context)
        rope = rope_table(self.config.head_dim, grid, x.device, rope_axes, frames)
        for block in blocks:
            if self_attend is not None:
                block = partial(block, self_attend=self_attend)
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
