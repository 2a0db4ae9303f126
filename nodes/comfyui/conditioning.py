"""Refuses conditionings that were made for other models than Wan text-to-video."""

from collections.abc import Collection
from typing import Any

TEXT_DIM = 4096  # of umt5-xxl

FOREIGN = {
    "audio_embed": "a sound track",
    "audio_inject_scale": "a sound track",
    "camera_conditions": "a camera path",
    "clip_vision_output": "a picture's CLIP embedding",
    "clip_vision_output_ref": "a picture's CLIP embedding",
    "concat_latent_image": "the picture of an image-to-video node",
    "concat_mask": "the mask of an image-to-video node",
    "concat_mask_index": "the mask of an image-to-video node",
    "context_latents": "reference pictures",
    "control_video": "a control video",
    "driving_mask_28ch": "a mask of a driving video",
    "face_video_pixels": "a video of a face",
    "pose_video_latent": "a video of poses",
    "ref_mask_28ch": "a mask of reference pictures",
    "ref_mask_flag": "a mask of reference pictures",
    "reference_latents": "reference pictures",
    "reference_motion": "a reference motion",
    "reference_strength": "reference pictures",
    "time_dim_concat": "reference frames",
    "vace_frames": "a VACE control video",
    "vace_mask": "a VACE mask",
    "vace_strength": "a VACE control video",
}
"""Entries that nodes for other Wan models add to a conditioning; a text-to-video model ignores or misreads them."""


def check_conditionings(conditionings: dict[str, list[dict[str, Any]]], reads: Collection[str] = ()) -> None:
    """Raise ``ValueError`` for a prompt that is meant for another kind of Wan model.

    ``conditionings``: those of a guider by name (positive, negative ...), in the form ComfyUI samples with.
    ``reads``: the entries that the model takes besides the text.
    """
    for name, entries in conditionings.items():
        for entry in entries:
            check_entry(entry, name, reads)


def check_entry(entry: dict[str, Any], name: str, reads: Collection[str]) -> None:
    for key in FOREIGN:
        if entry.get(key) is not None and key not in reads:
            raise ValueError(
                f"{name} carries {FOREIGN[key]} ({key}), meant for another Wan model; connect a plain text prompt and "
                f"give pictures with VAE Encode Keyframes"
            )
    text = entry.get("cross_attn")
    if text is not None and (text.ndim != 3 or text.shape[-1] != TEXT_DIM):
        raise ValueError(
            f"{name} is a text embedding of shape {list(text.shape)}; Wan needs [1, words, {TEXT_DIM}]: encode the "
            f"prompt with the umt5-xxl text encoder (CLIP type wan)"
        )
