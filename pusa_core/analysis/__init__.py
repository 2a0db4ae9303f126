"""The paper's analyses: attention between latent frames, and parameter drift."""

from .attention_map import AttentionMaps, AttentionRecorder, RecordedModel, frame_attention, pooled_frame_attention
from .drift import Change, checkpoint_drift, lora_drift

__all__ = [
    "AttentionMaps",
    "AttentionRecorder",
    "Change",
    "RecordedModel",
    "checkpoint_drift",
    "frame_attention",
    "lora_drift",
    "pooled_frame_attention",
]
