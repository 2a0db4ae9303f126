"""ComfyUI's own functions for its Wan network, with small random weights: Uni3C and InfiniteTalk.

``PATTERNS[name](model)`` changes a MODEL as the nodes do; for one video of three frames with 3 x 4 tokens each. Empty
for versions without them.
"""

from types import SimpleNamespace
from typing import Any

import torch
from comfy.ldm.wan.model import WanModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

try:
    from comfy.ldm.wan.model_multitalk import (
        MultiTalkCrossAttnPatch,
        MultiTalkGetAttnMapPatch,
        SingleStreamMultiAttention,
    )
    from comfy.ldm.wan.uni3c import WanUni3CControlnet
    from comfy_extras.nodes_model_patch import WanUni3CCnetPatch
except ImportError:
    known = False
else:
    known = True

FRAMES, ROWS, COLUMNS = 3, 3, 4  # tokens
AUDIO = 16  # width of a sound's embedding


def network_of(model: ModelPatcher) -> WanModel:
    return model.get_model_object("diffusion_model")


def with_random_weights(module: nn.Module) -> SimpleNamespace:
    """A MODEL_PATCH, of which the functions read ``model`` alone."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in module.named_parameters():
        offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1 + offset
    return SimpleNamespace(model=module)


def uni3c(model: ModelPatcher) -> None:
    """A control network beside the first two blocks, guided by a rendered video."""
    dim = network_of(model).dim
    control = WanUni3CControlnet(
        conv_out_dim=dim,
        dim=256,
        ffn_dim=64,
        num_layers=2,
        time_embed_dim=dim,
        out_proj_dim=dim,
        mid_channels=8,
        operations=nn,
    )
    patch = WanUni3CCnetPatch(with_random_weights(control), None, None, None, 1.0, 1.0, 0.0)
    render = torch.randn(1, 16, FRAMES, 2 * ROWS, 2 * COLUMNS, generator=torch.Generator().manual_seed(3))
    patch.prepared_render = render  # instead of a picture to encode
    model.set_model_double_block_patch(patch)


class SpeakerBlock(nn.Module):
    """A block of InfiniteTalk's file; ComfyUI's own class has 40 heads, which fits the width of 14B alone."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.audio_cross_attn = SingleStreamMultiAttention(dim, AUDIO, heads, qkv_bias=True, operations=nn)
        self.norm_x = nn.LayerNorm(dim)


class Speakers(nn.Module):
    def __init__(self, network: WanModel) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SpeakerBlock(network.dim, network.num_heads) for _ in network.blocks)


def infinite_talk(model: ModelPatcher) -> None:
    """Two speakers' sound behind the cross-attention, told apart by a map from the self-attention."""
    network = network_of(model)
    patch = with_random_weights(Speakers(network))
    left = torch.arange(ROWS * COLUMNS) % COLUMNS < COLUMNS // 2
    masks: Tensor = torch.stack((left, ~left))
    options: dict[str, Any] = model.model_options["transformer_options"]
    options["audio_embeds"] = torch.randn(1, FRAMES, 6, AUDIO, generator=torch.Generator().manual_seed(4))
    model.set_model_patch(MultiTalkGetAttnMapPatch(masks), "attn1_patch")
    model.set_model_patch(MultiTalkCrossAttnPatch(patch, 1.0), "attn2_patch")


PATTERNS = {"Uni3C": uni3c, "InfiniteTalk": infinite_talk} if known else {}
