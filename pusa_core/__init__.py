"""Pusa: Wan video models with one noise level per latent frame. Pure PyTorch; knows nothing of ComfyUI."""

from .model.attention import attention
from .model.config import WanConfig
from .model.dit import WanModel
from .sampling.keyframes import Given, latent_length, lead_in, pixel_frames_of, pixel_length
from .sampling.sampler import euler_sample, guided_velocity, start_latents
from .sampling.schedule import flow_sigmas, parse_noise_levels, sigma_table, switch_step
from .training import fafm_loss, sample_sigmas
from .weights.checkpoints import load_checkpoint
from .weights.lora import Lora, LoraLayer, load_lora, merge_lora, save_lora

__all__ = [
    "Given",
    "Lora",
    "LoraLayer",
    "WanConfig",
    "WanModel",
    "attention",
    "euler_sample",
    "fafm_loss",
    "flow_sigmas",
    "guided_velocity",
    "latent_length",
    "lead_in",
    "load_checkpoint",
    "load_lora",
    "merge_lora",
    "parse_noise_levels",
    "pixel_frames_of",
    "pixel_length",
    "sample_sigmas",
    "save_lora",
    "sigma_table",
    "start_latents",
    "switch_step",
]
