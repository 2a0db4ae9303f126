"""Where the embedded demo model lives. The folders are named as ComfyUI names its own."""

from pathlib import Path

MODELS = Path(__file__).parents[2] / "demo" / "models"
DIT = MODELS / "diffusion_models" / "pusa_demo_wan_t2v.safetensors"
LORA = MODELS / "loras" / "pusa_demo_lora.safetensors"
VAE = MODELS / "vae" / "pusa_demo_vae.safetensors"
