"""The Wan diffusion transformer with one timestep per latent frame, or per token.

Parameter names and shapes are those of the released Wan2.1 / Wan2.2-14B text-to-video files. The one difference from
the released network: the timestep may be a vector, and frame ``f`` is modulated by its own ``t_f`` (Pusa, arXiv
2507.16116, eq. 6). Timesteps are embedded per frame, and where they differ within a frame, per distinct one
(:mod:`.modulation`). Equal ones of frames are not merged: there are at most a few dozen frames.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .attention import Attention, Block, attention
from .axes import rearrange
from .compile import prepare_compiler
from .config import WanConfig
from .elementwise import FeedForward, gated_residual, may_overwrite, modulate, residual
from .modulation import LEVELS, Vectors, distinct_levels, offset_vectors
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
    """``count`` learned offsets ``[1, count, dim]``.

    On the meta device nothing is drawn: PyTorch would import 75 MB of decompositions for it.
    """
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
        """``source``: the tokens that keys and values are computed from; by default ``x``."""
        source = x if source is None else source
        q = self._split_heads(self.norm_q(self.q(x)))
        if rope is not None:
            q = apply_rope(q, rope)
        k = self._split_heads(self.norm_k(self.k(source)))
        if rope is not None:
            k = apply_rope(k, rope)
        v = self._split_heads(self.v(source))  # last, when the temporaries of q and k are free again
        return self.o(attend(q, k, v))

    def _split_heads(self, x: Tensor) -> Tensor:
        return rearrange(x, "b n (heads d) -> b n heads d", heads=self.num_heads)


class WanBlock(nn.Module):
    ffn_tokens: int | None = FFN_TOKENS
    """Tokens, in whole frames, that the feed-forward layer takes at a time without autograd; None: all of them."""

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
        time: Tensor | Vectors,
        context: Tensor,
        rope: Tensor,
        attend: Attention,
        self_attend: Attention | None = None,
    ) -> Tensor:
        """``x [B, F * n, D]``; ``time [B, F, 6, D]``; ``context [B, L, D]``; ``rope`` from :func:`rope_table`.

        ``self_attend``: another kernel for the self-attention (:func:`pusa_core.model.attention.hook_self_attention`).
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = offset_vectors(self.modulation, time)  # each [B, F, D]
        self_attend = self_attend or attend
        # intermediate results get no names, which would keep them in memory
        x = gated_residual(x, self.attend_to_video(modulate(self.norm1(x), shift1, scale1), rope, self_attend), gate1)
        x = self.attend_to_text(x, context, attend)
        if not may_overwrite():
            return gated_residual(x, self.feed_forward(x, shift2, scale2), gate2)
        frames = gate2.frames
        count = frames if self.ffn_tokens is None else max(1, self.ffn_tokens * frames // x.shape[1])
        for part in (slice(first, first + count) for first in range(0, frames, count)):
            chunk = x.unflatten(1, (frames, -1))[:, part]  # a view, which an einops pattern would not promise
            vectors = shift2.of_frames(part), scale2.of_frames(part)
            y = self.feed_forward(rearrange(chunk, "b f n d -> b (f n) d"), *vectors)
            chunk.addcmul_(y.view_as(chunk), gate2.broadcast(part))
        return x

    def attend_to_video(self, x: Tensor, rope: Tensor, attend: Attention) -> Tensor:
        """The update of the self-attention; a host with another way to call its layers overrides this and the next."""
        return self.self_attn(x, None, rope, attend)

    def attend_to_text(self, x: Tensor, context: Tensor, attend: Attention) -> Tensor:
        return residual(x, self.cross_attn(self.norm3(x), context, None, attend))

    def feed_forward(self, x: Tensor, shift: Vectors, scale: Vectors) -> Tensor:
        return self.ffn(modulate(self.norm2(x), shift, scale))


class WanHead(nn.Module):
    def __init__(self, config: WanConfig, *, operations: Operations, **factory: Any) -> None:
        super().__init__()
        dim, (pf, ph, pw) = config.dim, config.patch_size
        self.norm = operations.LayerNorm(dim, eps=config.eps, elementwise_affine=False, **factory)
        self.head = operations.Linear(dim, pf * ph * pw * config.out_dim, **factory)
        self.modulation = initial_modulation(2, dim, factory)

    def forward(self, x: Tensor, time: Tensor | Vectors) -> Tensor:
        """``x [B, F * n, D]``; ``time [B, F, 1, D]`` -> ``[B, F * n, voxels of a patch * out_dim]``."""
        shift, scale = offset_vectors(self.modulation, time)
        return self.head(modulate(self.norm(x), shift, scale))


class WanModel(nn.Module):
    """The DiT."""

    source = ""  # the files that its weights come from, for messages

    def __init__(
        self,
        config: WanConfig,
        *,
        operations: Operations = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        prepare_compiler()
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
        blocks: Iterable[Block] | None = None,
        rope_axes: Axes = PLAIN,
    ) -> Tensor:
        """Predict the velocity (noise minus clean latents).

        Args:
            latents: ``[B, C, F, H, W]``; H and W divisible by the patch size.
            timestep: in 0..1000 (1000 sigma): ``[B]``; ``[B, F]`` with one value for each latent frame; or ``[B, F, h,
                w]`` with one for each token (patch). Equal entries give the bits of the shorter form. Within frames, at
                most F + :data:`~pusa_core.model.modulation.LEVELS` values are told apart.
            context: text embedding ``[B, L, text_dim]``; its zero padding is attended to, as in the released network.
            attend: attention kernel.
            blocks: called in place of the model's own, each like :meth:`WanBlock.forward`; for hooks and patches.
            rope_axes: scale and shift of the positions of frames, rows and columns.

        Returns:
            Velocity like ``latents``.

        Raises:
            ValueError: shapes that do not fit, with the values.
        """
        timestep = self._check(latents, timestep, context)
        x = self.embed(latents)  # [B, D, F, h, w]
        grid = (x.shape[2], x.shape[3], x.shape[4])
        x = rearrange(x, "b d f h w -> b (f h w) d").contiguous()
        embed_time = self.embed_time if timestep.ndim == 2 else self.embed_time_of_tokens
        block_time, head_time = embed_time(timestep, x.dtype)
        context = self.text_embedding(context)
        rope = rope_table(self.config.head_dim, grid, x.device, rope_axes)
        for block in self.blocks if blocks is None else blocks:
            x = block(x, block_time, context, rope, attend)
        return self._unpatchify(self.head(x, head_time), grid)

    def embed(self, latents: Tensor) -> Tensor:
        """Tokens ``[B, D, F, h, w]`` of latents, in the dtype of the latents; a host may keep this layer in another."""
        return self.patch_embedding(latents)

    def embed_time(self, timestep: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """What timesteps ``[B, F]`` give the blocks, ``[B, F, 6, D]``, and the head, ``[B, F, 1, D]``."""
        time = self.time_embedding(sinusoidal_embedding(timestep, self.config.freq_dim).to(dtype))
        return self.time_projection(time).unflatten(2, (6, -1)), time.unsqueeze(2)

    def embed_time_of_tokens(self, timestep: Tensor, dtype: torch.dtype) -> list[Vectors]:
        """As :meth:`embed_time`, for ``[B, F, h, w]``.

        The frames' first tokens are embedded by themselves: where a frame's timesteps are equal, it takes their bits.
        Where every process has a band of the frames, the levels of the whole frames' first tokens need room as well.
        """
        first, others, index = distinct_levels(timestep, LEVELS + timestep.shape[1])
        tables = zip(self.embed_time(first, dtype), self.embed_time(others, dtype), strict=True)
        return [Vectors(torch.cat(pair, dim=1), index) for pair in tables]

    def _check(self, latents: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        """Validate shapes; return the timestep as ``[B, F]`` or ``[B, F, h, w]``, of tokens."""
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
        grid = (batch, frames // pf, height // ph, width // pw)
        if timestep.shape not in (grid[:2], grid):
            raise ValueError(
                f"timestep has shape {tuple(timestep.shape)}; give [{batch}], one value for each latent frame, "
                f"{list(grid[:2])}, or one for each patch of {ph} x {pw} latents, {list(grid)}"
            )
        if context.ndim != 3 or context.shape[0] != batch or context.shape[2] != self.config.text_dim:
            raise ValueError(
                f"context has shape {tuple(context.shape)}; this model takes [{batch}, L, {self.config.text_dim}]"
            )
        return timestep

    def _unpatchify(self, x: Tensor, grid: tuple[int, int, int]) -> Tensor:
        (frames, rows, columns), (pf, ph, pw) = grid, self.config.patch_size
        pattern = "b (f h w) (pf ph pw c) -> b c (f pf) (h ph) (w pw)"
        return rearrange(x, pattern, f=frames, h=rows, w=columns, pf=pf, ph=ph, pw=pw)
