"""Our DiT as a subclass of ComfyUI's Wan network, layer by layer.

A loaded network keeps its modules and only changes their classes. So its parameters, whatever ComfyUI has attached to
them, and child modules and attributes that only a newer version has, are where other nodes look for them. Every layer
is called as the native one is, and computes as ``pusa_core`` does.
"""

from typing import Any

import comfy.model_management
from comfy.ldm.flux.layers import EmbedND
from comfy.ldm.wan import model as native
from torch import Tensor, nn

from ...pusa_core import WanConfig
from ...pusa_core.model import dit
from ...pusa_core.model.attention import Attention
from ...pusa_core.model.elementwise import FeedForward, residual
from ...pusa_core.model.modulation import Vectors
from ...pusa_core.model.rope import Axes, rope_table
from .hooks import SELF_ATTENTION, HostAttention, Options, Pass, call_layer, foreign_method, kv_cache, patches_of
from .network import refuse_extra_tokens
from .rope import cosines_and_sines, rotations


class WanSelfAttention(native.WanSelfAttention, dit.WanAttention):
    def forward(  # type: ignore[override]  # ComfyUI's signature, here and in the layers below
        self, x: Tensor, freqs: Tensor, transformer_options: Options | None = None
    ) -> Tensor:
        options = transformer_options or {}
        kernel: Attention = options.get(SELF_ATTENTION) or HostAttention(options, self)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            y = kernel(q, k, v)
            for patch in patches_of(options, "attn1_patch"):
                y = patch({"x": y, "q": q, "k": k, "transformer_options": options})
            return y

        return dit.WanAttention.forward(self, x, None, cosines_and_sines(freqs), attend)


class WanT2VCrossAttention(native.WanT2VCrossAttention, dit.WanAttention):
    def forward(  # type: ignore[override]
        self, x: Tensor, context: Tensor, transformer_options: Options | None = None, **kwargs: Any
    ) -> Tensor:
        return dit.WanAttention.forward(self, x, context, None, HostAttention(transformer_options or {}, self))


class WanAttentionBlock(native.WanAttentionBlock, dit.WanBlock):
    ffn_tokens = None  # no chunks: offloaded or quantised weights are fetched or converted at every use

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        e: Tensor | Vectors,
        freqs: Tensor,
        context: Tensor,
        context_img_len: int | None = None,
        transformer_options: Options | None = None,
    ) -> Tensor:
        # functions of other packs may have one timestep for all frames, [B, 6, D]
        time = e.unsqueeze(1) if isinstance(e, Tensor) and e.ndim == 3 else e
        return dit.WanBlock.forward(
            self, x, time, context, freqs, HostAttention(transformer_options or {}, self.self_attn)
        )

    def attend_to_video(  # type: ignore[override]
        self, x: Tensor, rope: Tensor, attend: HostAttention
    ) -> Tensor:
        return call_layer(self.self_attn, x, rope, transformer_options=attend.options)

    def attend_to_text(  # type: ignore[override]
        self, x: Tensor, context: Tensor, attend: HostAttention
    ) -> Tensor:
        options = attend.options
        y = call_layer(self.cross_attn, self.norm3(x), context, context_img_len=None, transformer_options=options)
        x = residual(x, y)
        for patch in patches_of(options, "attn2_patch"):
            x = patch({"x": x, "transformer_options": options})
        return x


NativeFeedForward: type[nn.Sequential] = getattr(native, "WanFeedForward", nn.Sequential)  # older versions have no own


class WanFeedForward(FeedForward, NativeFeedForward):  # type: ignore[misc, valid-type]
    """Computes as ours, and is what other nodes take for the native one."""


class Head(native.Head, dit.WanHead):
    def forward(self, x: Tensor, e: Tensor | Vectors) -> Tensor:
        if isinstance(e, Tensor) and e.ndim < 4:  # other packs' functions: [B, D], or [B, F or 1, D]
            e = e.view(len(x), -1, 1, e.shape[-1])
        return dit.WanHead.forward(self, x, e)


class WanModel(native.WanModel, dit.WanModel):
    """``forward``, with the wrappers of other nodes, and ``_forward``, which pads and crops, are ComfyUI's."""

    report = ""  # description of the checkpoint

    def embed(self, latents: Tensor) -> Tensor:
        return self.patch_embedding(latents.float()).to(latents.dtype)  # ComfyUI keeps this layer in fp32

    def _forward(self, x: Tensor, timestep: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        foreign = foreign_method(self, "forward_orig")
        if foreign is None or timestep.ndim == 1:
            return super()._forward(x, timestep, *args, **kwargs)
        name = f"{getattr(foreign, '__qualname__', type(foreign).__name__)} of {foreign.__module__}"
        advice = "remove the node that set it; EasyCache, which comes with ComfyUI, saves steps in the same way"
        try:
            velocity = super()._forward(x, timestep, *args, **kwargs)
        except comfy.model_management.OOM_EXCEPTION:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"model is run by {name}, which cannot take a timestep per frame ({error}); {advice}"
            ) from error
        if velocity.shape != x.shape:
            raise ValueError(
                f"model is run by {name}, which mistakes the timesteps of frames for those of videos; {advice}"
            )
        return velocity

    def forward_orig(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        clip_fea: Tensor | None = None,
        freqs: Tensor | None = None,
        transformer_options: Options | None = None,
        **kwargs: Any,
    ) -> Tensor:
        refuse_extra_tokens(kwargs)
        options = {} if transformer_options is None else transformer_options
        if freqs is None:
            freqs = self.rope_encode(*x.shape[2:], device=x.device, dtype=x.dtype)
        pt, ph, pw = self.config.patch_size
        grid = (x.shape[2] // pt, x.shape[3] // ph, x.shape[4] // pw)
        if t.ndim == 2 and t.shape[1] not in (1, grid[0]):  # one for each token, as the native network takes them
            t = t.unflatten(1, grid)
        run = Pass(self, x, t, freqs, options)
        cache = kv_cache(self, options)
        if cache is None:
            return run.velocity(x, t, context, blocks=run.blocks())
        return cache.velocity(run.velocity, run.blocks(), x, t, context)

    def rope_encode(self, t: int, h: int, w: int, *args: Any, **kwargs: Any) -> Tensor:
        """The cached table of ``pusa_core``, unless another node has changed what the native network computes here."""
        others = kwargs.keys() - {"device", "dtype", "transformer_options"}
        if args or others or type(self.rope_embedder) is not EmbedND:
            return super().rope_encode(t, h, w, *args, **kwargs)
        pt, ph, pw = self.config.patch_size
        grid = ((t + pt // 2) // pt, (h + ph // 2) // ph, (w + pw // 2) // pw)
        axes = rope_axes((kwargs.get("transformer_options") or {}).get("rope_options") or {})
        return rotations(rope_table(self.config.head_dim, grid, kwargs["device"], axes))


def rope_axes(options: dict[str, float]) -> Axes:
    """Scale and shift of frame, row and column positions, as set by a node such as Scale ROPE."""
    frames, rows, columns = ((options.get(f"scale_{axis}", 1.0), options.get(f"shift_{axis}", 0.0)) for axis in "tyx")
    return frames, rows, columns


OURS: dict[type[nn.Module], type[nn.Module]] = {
    native.WanModel: WanModel,
    native.WanAttentionBlock: WanAttentionBlock,
    native.WanSelfAttention: WanSelfAttention,
    native.WanT2VCrossAttention: WanT2VCrossAttention,
    native.Head: Head,
}


def check_layers(network: nn.Module, expected: dit.WanModel) -> None:
    """Raise ``ValueError`` unless the network has the layers of ``expected``, and no others that compute something.

    Children without parameters may be there: they say how a layer computes, not what.
    """
    theirs, known = dict(network.named_modules()), dict(expected.named_modules())
    for name, module in known.items():
        if name not in theirs:
            raise ValueError(f"it has no {name}")
        ours = isinstance(module, dit.WanModel | dit.WanBlock | dit.WanAttention | dit.WanHead)
        if ours and type(theirs[name]) not in OURS:
            raise ValueError(f"{name or 'it'} is a {type(theirs[name]).__name__}")
        if isinstance(module, FeedForward) and type(theirs[name]) is not NativeFeedForward:
            raise ValueError(f"{name} is a {type(theirs[name]).__name__}")
    for name, module in theirs.items():
        if name not in known and any(True for _ in module.parameters(recurse=False)):
            raise ValueError(f"it has a new layer, {name}")


def convert(network: Any) -> WanModel:
    """Make ComfyUI's own Wan text-to-video network ours, in place.

    Raises ``ValueError``, with the network as it was, for one with layers that ours would leave out.
    """
    config = WanConfig.from_state_dict(dict(network.named_parameters()), num_heads=network.num_heads)
    check_layers(network, dit.WanModel(config, device="meta"))
    for module in list(network.modules()):
        module.__class__ = OURS.get(type(module), type(module))
    for block in network.blocks:
        block.ffn.__class__ = WanFeedForward
    ours: WanModel = network
    ours.config = config
    return ours.eval().requires_grad_(False)
