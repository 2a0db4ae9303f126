"""Fine-tuning: the frame-aware flow-matching objective, LoRA adapters, and ``python -m pusa_core.training``."""

from .adapters import LoraLinear, attach_lora, detach_lora
from .objective import fafm_loss, loss_weight, sample_sigmas

__all__ = ["LoraLinear", "attach_lora", "detach_lora", "fafm_loss", "loss_weight", "sample_sigmas"]
