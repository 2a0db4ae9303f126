"""Fine-tuning: the frame-aware flow-matching objective and LoRA adapters."""

from .adapters import LoraLinear, attach_lora, detach_lora
from .objective import fafm_loss, loss_weight, sample_sigmas

__all__ = ["LoraLinear", "attach_lora", "detach_lora", "fafm_loss", "loss_weight", "sample_sigmas"]
