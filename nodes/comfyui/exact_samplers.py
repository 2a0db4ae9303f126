"""Which of ComfyUI's samplers are exact with a noise level for every frame."""

from typing import Any

EXACT = {
    "sample_euler": "euler",
    "sample_heun": "heun",
    "sample_heunpp2": "heunpp2",
    "sample_dpm_2": "dpm_2",
    "sample_lms": "lms",
    "sample_dpmpp_2m": "dpmpp_2m",
    "sample_ipndm": "ipndm",
    "sample_ipndm_v": "ipndm_v",
    "sample_res_multistep": "res_multistep",
    "sample_gradient_estimation": "gradient_estimation",
}
"""ComfyUI's sampler functions that are exact with per-frame noise levels; ``tests/comfy`` measures each."""

RENOISING = ("ancestral", "sde", "lcm", "ddpm", "seeds", "sa_solver")  # parts of the names of samplers that add noise


def check_sampler(sampler: Any) -> None:
    """Raise ``ValueError`` unless the SAMPLER is exact with per-frame noise levels."""
    function = getattr(sampler, "sampler_function", None)
    name = getattr(function, "__name__", type(sampler).__name__)
    noise = [key for key in ("s_churn", "eta") if getattr(sampler, "extra_options", {}).get(key)]
    if name in EXACT and not noise:
        return
    shown = name.removeprefix("sample_").removesuffix("_function")
    if noise or any(part in shown for part in RENOISING):
        adds = f" with {noise[0]} above 0" if noise else ""
        reason = f"{shown}{adds} adds fresh noise to all frames at every step, which destroys the given ones"
    else:
        reason = f"{shown} is not known to follow the noise level of every single frame"
    raise ValueError(f"sampler {reason}; choose one of {', '.join(EXACT.values())}")
