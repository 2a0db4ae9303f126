"""Pusa: Wan video models with one noise level per latent frame. Pure PyTorch; knows nothing of ComfyUI."""

from .media.text_encoder import TextEncoder, load_text_encoder
from .media.vae import Vae, load_vae
from .media.video import write_video
from .model.attention import attention
from .model.config import WanConfig
from .model.dit import WanModel
from .sampling.keyframes import Given, latent_length, lead_in, pixel_frames_of, pixel_length
from .sampling.pipeline import Keyframe, Settings, encode_keyframes, generate_latents
from .sampling.sampler import euler_sample, guided_velocity, start_latents
from .sampling.schedule import flow_sigmas, parse_noise_levels, sigma_table, switch_step
from .training import fafm_loss, sample_sigmas
from .weights.checkpoints import load_checkpoint
from .weights.load import load_model
from .weights.lora import Lora, LoraLayer, load_lora, merge_lora, save_lora

__all__ = [
    "Given",
    "Keyframe",
    "Lora",
    "LoraLayer",
    "Settings",
    "TextEncoder",
    "Vae",
    "WanConfig",
    "WanModel",
    "attention",
    "encode_keyframes",
    "euler_sample",
    "fafm_loss",
    "flow_sigmas",
    "generate_latents",
    "guided_velocity",
    "latent_length",
    "lead_in",
    "load_checkpoint",
    "load_lora",
    "load_model",
    "load_text_encoder",
    "load_vae",
    "merge_lora",
    "parse_noise_levels",
    "pixel_frames_of",
    "pixel_length",
    "sample_sigmas",
    "save_lora",
    "sigma_table",
    "start_latents",
    "switch_step",
    "write_video",
]
