"""The model files of the graphs, with their links, and what they take up."""

from typing import Any

from pusa_core.weights import made_for_levels as family

Files = list[dict[str, Any]]

HUB = "https://huggingface.co"
WAN21 = f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
WAN22 = f"{HUB}/Comfy-Org/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files"
KIJAI = f"{HUB}/Kijai/WanVideo_comfy/resolve/main"
KIJAI_FP8 = f"{HUB}/Kijai/WanVideo_comfy_fp8_scaled/resolve/main"
FOLDERS = ("diffusion_models", "text_encoders", "vae", "loras")


LABELS: dict[str, str] = {}  # what the note calls each file


def file(label: str, url: str, elsewhere: str = "loras") -> dict[str, str]:
    """The entry of a model file that the page offers for download; ``elsewhere``: its folder where the URL has none."""
    folder = next((name for name in FOLDERS if f"/{name}/" in url), elsewhere)
    name = url.rpartition("/")[2]
    LABELS[name] = label
    return {"name": name, "url": url, "directory": folder}


TEXT_ENCODER = file("umt5-xxl", f"{WAN21}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors")
VAE = file("Wan2.1 VAE", f"{WAN21}/vae/wan_2.1_vae.safetensors")
T2V = file("Wan2.1 14B", f"{WAN21}/diffusion_models/wan2.1_t2v_14B_fp8_scaled.safetensors")
SKYREELS_V3 = file(
    "SkyReels-V3-V2V", f"{KIJAI_FP8}/SkyReelsV3/Wan21-SkyReelsV3-V2V_fp8_scaled_mixed.safetensors", "diffusion_models"
)
SKYREELS_V2_DF = file(
    "SkyReels-V2-DF", f"{KIJAI}/Skyreels/Wan2_1-SkyReels-V2-DF-14B-720P_fp8_e4m3fn.safetensors", "diffusion_models"
)
MADE_FOR_LEVELS = {family.SKYREELS_V3: SKYREELS_V3, family.SKYREELS_V2: SKYREELS_V2_DF}
"""The checkpoint of a family."""
PUSA_LORA = file("Pusa LoRA", f"{KIJAI}/Pusa/Wan21_PusaV1_LoRA_14B_rank512_bf16.safetensors")
TURBO_LORA = file("turbo LoRA", f"{KIJAI}/Lightx2v/lightx2v_T2V_14B_cfg_step_distill_v2_lora_rank64_bf16.safetensors")
EXPERTS = {
    level: (
        file(
            f"Wan2.2, {level} noise",
            f"{WAN22}/diffusion_models/wan2.2_t2v_{level}_noise_14B_fp8_scaled.safetensors",
        ),
        file(
            f"Pusa LoRA, {level} noise",
            f"{KIJAI}/Pusa/Wan22_PusaV1_lora_{level.upper()}_resized_dynamic_avg_rank_98_bf16.safetensors",
        ),
        file(
            f"turbo LoRA, {level} noise",
            f"{WAN22}/loras/wan2.2_t2v_lightx2v_4steps_lora_v1.1_{level}_noise.safetensors",
        ),
    )
    for level in ("high", "low")
}
"""For each of Wan2.2's two models: the model, its Pusa LoRA and its 4-step LoRA."""
