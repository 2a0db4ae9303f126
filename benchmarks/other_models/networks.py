"""Small networks of every kind of model, ComfyUI's own with random weights, and what they are conditioned on.

For ComfyUI's Python: everything here is of the version that is imported.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.ops
import comfy.supported_models
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

FRAMES, SIZE = 5, 4  # latents
WAN = {"image_model": "wan2.1", "dim": 128, "ffn_dim": 128, "num_heads": 1, "num_layers": 2}
COSMOS = {
    "image_model": "cosmos_predict2",
    "max_img_h": 16,
    "max_img_w": 16,
    "max_frames": 16,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 64,
    "num_blocks": 2,
    "num_heads": 2,
    "crossattn_emb_channels": 32,
    "pos_emb_cls": "rope3d",
    "use_adaln_lora": True,
    "adaln_lora_dim": 16,
    "concat_padding_mask": True,
    "rope_enable_fps_modulation": False,
}
LTX = {
    "in_channels": 128,
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "caption_channels": 32,
    "cross_attention_dim": 64,
}
LTXAV = {
    **LTX,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 32,
    "cross_attention_dim": 64,
    "audio_cross_attention_dim": 64,
}
H3 = {
    "image_model": "minimax_h3",
    "hidden_size": 64,
    "num_layers": 2,
    "token_refiner_num_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "ffn_hidden_size": 64,
    "text_dim": 32,
    "timestep_input_dim": 32,
    "time_embed_hidden_size": 64,
    "time_embed_dim": 32,
    "rope_inv_freq_len": 4,
}

Order = tuple[str, ...]
"""The tokens of a Wan network in order: ``video``, or the name of another argument that it turns into tokens."""


@dataclass(frozen=True)
class Kind:
    """A kind of model: the class in ``comfy.supported_models``, its small network, and its latents.

    ``conditioning``: what nodes add to its prompts, by latent channels and frames. ``order``: of its tokens, as read in
    ComfyUI's network; () for networks that are not Wan. ``mixes``: ends of the names of the layers after which a token
    knows of others. ``sound``: shape of the sound beside the video, without the batch.
    """

    name: str
    config: str
    network: dict[str, Any]
    channels: int = 16
    conditioning: Callable[[], dict[str, Any]] = field(default=dict)
    order: Order = ("video",)
    mixes: tuple[str, ...] = ("self_attn.o",)
    sound: tuple[int, ...] = ()
    text: int = 4096

    @property
    def supported(self) -> bool:
        return hasattr(comfy.supported_models, self.config)


def latents(channels: int = 16, frames: int = FRAMES, size: int = SIZE) -> Tensor:
    return torch.randn(1, channels, frames, size, size, generator=torch.Generator().manual_seed(channels + frames))


def picture() -> dict[str, Any]:
    """As from WanImageToVideo: a picture in the first frame."""
    mask = torch.ones(1, 1, FRAMES, SIZE, SIZE)
    mask[:, :, :1] = 0
    return {"concat_latent_image": latents(), "concat_mask": mask}


def scail() -> dict[str, Any]:
    return {"reference_latents": [latents(frames=1)], "pose_video_latent": latents(size=SIZE // 2)}


def scail2() -> dict[str, Any]:
    masks = {"driving_mask_28ch": (FRAMES, SIZE // 2), "ref_mask_28ch": (FRAMES + 1, SIZE)}
    drawn = {key: latents(28, *shape).abs().movedim(2, 1) for key, shape in masks.items()}
    return {**scail(), **drawn, "ref_mask_flag": True}


def one_reference() -> dict[str, Any]:
    return {"reference_latents": [latents(frames=1)]}


def words() -> dict[str, Any]:
    return {"attention_mask": torch.ones(1, 8)}


WAN_KINDS = (
    Kind("Wan2.2 I2V-A14B", "WAN21_T2V", {**WAN, "model_type": "t2v", "in_dim": 36}, conditioning=picture),
    Kind("Wan2.1 I2V-14B, InfiniteTalk", "WAN21_I2V", {**WAN, "model_type": "i2v", "in_dim": 36}, conditioning=picture),
    Kind(
        "Wan2.1 Fun, with a reference",
        "WAN21_FunControl2V",
        {**WAN, "model_type": "i2v", "in_dim": 48, "in_dim_ref_conv": 16},
        conditioning=one_reference,
        order=("reference_latent", "video"),
    ),
    Kind("Wan2.2 TI2V-5B", "WAN22_T2V", {**WAN, "model_type": "t2v", "in_dim": 48, "out_dim": 48}, channels=48),
    Kind(
        "SCAIL",
        "WAN21_SCAIL",
        {**WAN, "model_type": "scail", "in_dim": 20},
        conditioning=scail,
        order=("reference_latent", "video", "pose_latents"),
    ),
    Kind(
        "SCAIL-2",
        "WAN21_SCAIL2",
        {**WAN, "model_type": "scail2", "in_dim": 20},
        conditioning=scail2,
        order=("reference_latent", "video", "pose_latents"),
    ),
    Kind("Wan2.2 Animate", "WAN22_Animate", {**WAN, "model_type": "animate", "in_dim": 36}, conditioning=picture),
    Kind(
        "HuMo",
        "WAN21_HuMo",
        {**WAN, "model_type": "humo", "in_dim": 16},
        conditioning=one_reference,
        order=("video", "reference_latent"),
    ),
    Kind(
        "Wan2.2 S2V",
        "WAN22_S2V",
        {**WAN, "model_type": "s2v", "in_dim": 16, "audio_inject_layers": [0]},
        conditioning=one_reference,
        order=("video", "reference_latent"),
    ),
)
OTHER_KINDS = (
    Kind(
        "LTX-Video",
        "LTXV",
        {"image_model": "ltxv", **LTX},
        channels=128,
        conditioning=words,
        order=(),
        mixes=("attn1.to_out.0",),
        text=32,
    ),
    Kind(
        "LTX-2",
        "LTXAV",
        {"image_model": "ltxav", **LTXAV},
        channels=128,
        conditioning=words,
        order=(),
        mixes=("attn1.to_out.0", "audio_to_video_attn.to_out.0", "video_to_audio_attn.to_out.0"),
        sound=(8, 6, 16),
        text=64,
    ),
    Kind("Cosmos Predict2", "CosmosT2IPredict2", COSMOS, order=(), mixes=("self_attn.output_proj",), text=32),
    Kind("MiniMax-H3", "MiniMaxH3", H3, 24, order=(), mixes=("attn.out_proj",), sound=(32, 2, 6), text=32),
)
REFUSED = (
    Kind("VACE", "WAN21_Vace", {**WAN, "model_type": "vace", "vace_layers": 1, "vace_in_dim": 96}),
    Kind("Wan camera control", "WAN21_Camera", {**WAN, "model_type": "camera", "in_dim": 32}),
    Kind("Wan2.2 camera control", "WAN22_Camera", {**WAN, "model_type": "camera_2.2", "in_dim": 36}),
)


def build(kind: Kind) -> ModelPatcher:
    """The MODEL of a kind, as a loader makes it, with random weights."""
    config = getattr(comfy.supported_models, kind.config)({**kind.network, "dtype": torch.float32})
    config.custom_operations = comfy.ops.disable_weight_init
    model = config.get_model({}, "")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in (*model.diffusion_model.parameters(), *model.diffusion_model.buffers()):
            if value.is_floating_point():
                value.copy_(0.2 * torch.randn(value.shape, generator=generator))
    cpu = torch.device("cpu")
    return ModelPatcher(model.eval(), load_device=cpu, offload_device=cpu)


def part_frames(kind: Kind, model: Any) -> None:
    """Zero what a token learns of others, so that every frame is computed as if it were alone."""
    layers = [layer for name, layer in model.diffusion_model.named_modules() if name.endswith(kind.mixes)]
    if not layers:
        raise ValueError(f"{kind.name} has no layers {kind.mixes}")
    for layer in layers:
        for parameter in layer.parameters():
            parameter.data.zero_()


def prompt(kind: Kind) -> list[Any]:
    """A CONDITIONING."""
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(1, 8, kind.text, generator=generator), kind.conditioning()]]


def streams(kind: Kind, seed: int) -> list[Tensor]:
    """Random latents of a kind: the video, and the sound if it has one."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(kind.channels, FRAMES, SIZE, SIZE), *([kind.sound] if kind.sound else [])]
    return [torch.randn(1, *shape, generator=generator) for shape in shapes]


def nested(parts: list[Tensor]) -> Any:
    """As ComfyUI has them in a LATENT."""
    if len(parts) == 1:
        return parts[0]
    return importlib.import_module("comfy.nested_tensor").NestedTensor(parts)  # older versions lack it
