"""The graphs of ``tools.composes``: in which settings each node of ComfyUI or another pack is seen to act."""

import re
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

from pusa_core.weights.demo_files import DIT, LORA
from tools.comfy_client import Graph

GGUF = "demo_Q4_0.gguf"
"""The demo model in 4 bits, in ``diffusion_models`` where the pack ComfyUI-GGUF is installed."""


@dataclass(frozen=True)
class Case:
    """``inputs`` of a node beside its defaults, and how the video is sampled.

    ``no_effect``: why the node leaves the video as it is, where it is meant to. ``ours``: for a loader, the inputs of
    Pusa Load that load the same file.
    """

    inputs: dict[str, Any] = field(default_factory=dict)
    cfg: float = 3.0
    sampler: str = "PusaSampler"
    no_effect: str = ""
    ours: dict[str, Any] = field(default_factory=dict)


ALWAYS = {"start_percent": 0.0, "end_percent": 1.0}
LORA_ALONE = Case({"lora_name": LORA.name})
SHIFT = Case({"shift": 2.0}, sampler="KSampler")  # Pusa Sampler has a shift of its own
SPEED = "it says how to compute, not what"
OF_UNETS = "it scales layers that have the names of a UNet's"

CASES: dict[str, Case] = {
    # ComfyUI
    "CFGNorm": Case({"strength": 0.5}),
    "ContextWindowsManual": Case({"context_length": 5, "context_overlap": 2, "dim": 2}),
    "DifferentialDiffusion": Case(no_effect="the mask of the LATENT holds noise levels"),
    "EasyCache": Case({"reuse_threshold": 3.0, **ALWAYS}),
    "Epsilon Scaling": Case({"scaling_factor": 1.05}),
    "FreSca": Case({"scale_low": 1.5, "freq_cutoff": 2}),
    "LazyCache": Case({"reuse_threshold": 3.0, **ALWAYS}),
    "LoraLoader": LORA_ALONE,
    "LoraLoaderBypass": LORA_ALONE,
    "LoraLoaderBypassModelOnly": LORA_ALONE,
    "LoraLoaderModelOnly": LORA_ALONE,
    "ModelAttentionBackend": Case(no_effect=SPEED),
    "ModelComputeDtype": Case(no_effect="the default leaves the precision as it is"),
    "ModelMergeBlocks": Case({"input": 0.5}),
    "ModelMergeSimple": Case({"ratio": 0.5}),
    "ModelMergeWAN2_1": Case({"blocks.1.": 0.0, "head.": 0.5}),
    "ModelNoiseScale": Case(no_effect="rectified flows of this kind do not read it"),
    "ModelSamplingAuraFlow": SHIFT,
    "ModelSamplingSD3": SHIFT,
    "MultiGPU_WorkUnits": Case(no_effect=SPEED),
    "NAGuidance": Case(no_effect="its hook, attn1_output_patch, is not one of the Wan network"),
    "PatchModelAddDownscale": Case(no_effect="it patches the input blocks of a UNet"),
    "PerpNeg": Case({"empty_conditioning": ["empty", 0]}),
    "PerturbedAttentionGuidance": Case(no_effect="it replaces an attention in the middle block of a UNet"),
    "RescaleCFG": Case({"multiplier": 1.0}),
    "ScaleROPE": Case({"scale_t": 0.4, "scale_x": 0.5, "shift_y": 2.0}),
    "SelectModelDevice": Case(no_effect=SPEED),
    "SkipLayerGuidanceDiT": Case({"double_layers": "1", **ALWAYS}),
    "SkipLayerGuidanceDiTSimple": Case({"double_layers": "1", **ALWAYS}),
    "TemporalScoreRescaling": Case({"tsr_k": 0.7}),
    "UNetCrossAttentionMultiply": Case(no_effect=OF_UNETS),
    "UNetSelfAttentionMultiply": Case(no_effect=OF_UNETS),
    "UNetTemporalAttentionMultiply": Case(no_effect=OF_UNETS),
    "WanContextWindowsManual": Case({"context_length": 17, "context_overlap": 4}),
    "wanBlockSwap": Case(no_effect="ComfyUI keeps it for old graphs; it does nothing"),
    # ComfyUI-KJNodes
    "ApplyRifleXRoPE_WanVideo": Case({"k": 1}),
    "ContextWindowsVisualizerKJ": Case({"model": ["model", 0]}, no_effect="it draws windows"),
    "DifferentialDiffusionAdvanced": Case(no_effect="the mask of the LATENT holds noise levels"),
    "DiTBlockLoraLoader": LORA_ALONE,
    "LatentInpaintTTM": Case({"mask": ["area", 0], "steps": 2}),
    "ModelMemoryUsageFactorOverride": Case(no_effect=SPEED),
    "ModelMemoryUseReportPatch": Case(no_effect=SPEED),
    "ModelPassThrough": Case({"model": ["model", 0]}, no_effect="it passes the MODEL on"),
    "ModelPatchTorchSettings": Case(no_effect=SPEED),
    "ModelPreviewOverrideKJ": Case(no_effect="it changes previews"),
    "NABLA_AttentionKJ": Case({"torch_compile": False}, no_effect="it leaves fewer than 3000 tokens alone"),
    "PatchModelPatcherOrder": Case(no_effect=SPEED),
    "PathchSageAttentionKJ": Case({"sage_attention": "disabled"}, no_effect="disabled here: its kernels need a GPU"),
    "SkipLayerGuidanceWanVideo": Case({"blocks": "1", **ALWAYS}),
    "VRAM_Debug": Case({"model_pass": ["model", 0]}, no_effect="it passes the MODEL on"),
    "WanChunkFeedForward": Case({"dim_threshold": 1024}, no_effect="it cuts sequences that are longer than the demo's"),
    "WanVideoEnhanceAVideoKJ": Case({"weight": 10.0}),
    # at cfg 3 both prompts are in one batch, of which it guides the half that is negative already
    "WanVideoNAG": Case({"nag_alpha": 1.0}, cfg=1.0),
    "WanVideoTeaCacheKJ": Case(no_effect="its pack has withdrawn it: it passes the MODEL on"),
    # rgthree-comfy
    "Context (rgthree)": Case({"model": ["model", 0]}, no_effect="it passes the MODEL on"),
    "Lora Loader Stack (rgthree)": Case({"lora_01": LORA.name}),
    "Power Lora Loader (rgthree)": Case(
        {"model": ["model", 0], "clip": ["demo", 0], "lora_1": {"on": True, "lora": LORA.name, "strength": 1.0}}
    ),
    "Power Prompt (rgthree)": Case(
        {"opt_model": ["model", 0], "opt_clip": ["demo", 0], "prompt": f"a circle <lora:{LORA.stem}:1.0>"}
    ),
    # ComfyUI-Easy-Use
    "dynamicThresholdingFull": Case({"mimic_scale": 1.0, "threshold_percentile": 0.9}),
    "easy loraPromptApply": Case({"positive": f"a circle <lora:{LORA.stem}:1.0>"}),
    "easy loraStackApply": Case({"lora_stack": ["loras", 0]}),
    # ComfyUI-GGUF
    "UnetLoaderGGUF": Case({"unet_name": GGUF}, ours={"model_name": GGUF}),
    "UnetLoaderGGUFAdvanced": Case({"unet_name": GGUF}, ours={"model_name": GGUF}),
}
"""How a node is seen to act on a short video of four steps; nodes that are not here run with their defaults."""

FOR_OTHERS = re.compile(
    r"SD1|SD2|SDXL|SD3|SD35|Flux|Mochi|LTX|Cosmos|Qwen|Krea|H[un]+y|MiniMax|Chroma|Ideogram|HiDream|TripoSplat|"
    r"Animate2|ZImage|Anima|SUPIR|USO|PiDColor|Auraflow|ARVideo"
)
"""Names of nodes for networks that are not Wan's; only those in :data:`CASES` are run."""

OTHER_PACKS = re.compile(r"ipadapter|pulID|instantID|icLight|LLLite|FooocusInpaint")
"""Names of nodes that download models, or stand for nodes of packs that are not installed."""

LINKS = {
    "LATENT": ["start", 0],
    "LATENT_OPERATION": ["operation", 0],
    "CONDITIONING": ["negative", 0],
    "CLIP": ["demo", 0],
    "VAE": ["demo", 1],
    "IMAGE": ["picture", 0],
    "MASK": ["area", 0],
    "LORA_STACK": ["loras", 0],
}
EMPTY: dict[str, Any] = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}
WIDGETS = (*EMPTY, "COMBO")


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def default_of(spec: list[Any]) -> Any:
    """The value of a widget that nobody has touched; None for a list of no files."""
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    if options.get("default") is not None:
        return options["default"]
    if isinstance(kind, str) and kind in EMPTY:
        return EMPTY[kind]
    choices = kind if isinstance(kind, list) else options.get("options")
    return choices[0] if choices else None


def inputs_of(name: str, info: dict[str, Any]) -> dict[str, Any] | str:
    """Inputs for a node between the loader and the sampler, or what it needs that the demo cannot give."""
    given = CASES.get(name, Case()).inputs
    models = chain([["model", 0]], repeat(["other", 0]))
    inputs: dict[str, Any] = {}
    for key, spec in info["input"].get("required", {}).items():
        kind = spec[0]
        if key in given:
            inputs[key] = given[key]
        elif kind == "MODEL":
            inputs[key] = next(models)
        elif isinstance(kind, list) or kind in WIDGETS:
            inputs[key] = default_of(spec)
            if inputs[key] is None:
                return f"a file for {key}"
        elif kind in LINKS:
            inputs[key] = LINKS[kind]
        else:
            return str(kind)
    return {**inputs, **given}


def video_graph(own: bool, case: Case, changed: dict[str, Any] | None = None, output: int = 0) -> Graph:
    """Image to video with the MODEL of Pusa Load or of ComfyUI's own loader, behind ``changed``.

    ``other`` is a second MODEL of the same kind.
    """
    native = node("UNETLoader", unet_name=DIT.name, weight_dtype="default")
    if case.ours and changed is not None:  # a loader
        native, changed = changed, None
    ours = node("PusaLoad", **{"model_name": DIT.name, "lora_name": "none", "lora_strength": 1.0, **case.ours})
    loras = {"toggle": True, "mode": "simple", "num_loras": 1, "lora_1_name": LORA.name, "lora_1_strength": 1.0}
    graph = {
        "model": ours if own else native,
        "other": node("LoraLoaderModelOnly", model=["model", 0], lora_name=LORA.name, strength_model=1.0),
        "demo": node("PusaDemoLoader"),
        "positive": node("CLIPTextEncode", clip=["demo", 0], text="a red circle moves to the right"),
        "negative": node("CLIPTextEncode", clip=["demo", 0], text="a blue square"),
        "empty": node("CLIPTextEncode", clip=["demo", 0], text=""),
        "picture": node("EmptyImage", width=64, height=64, batch_size=1, color=0x3366CC),
        "area": node("SolidMask", value=1.0, width=64, height=64),
        "operation": node("LatentOperationTonemapReinhard", multiplier=0.5),
        "loras": node("easy loraStack", **loras),
        "start": node("PusaEncodeKeyframes", vae=["demo", 1], image=["picture", 0], position=0, length=33),
    }
    model = ["model", 0]
    if changed is not None:
        graph["changed"], model = changed, ["changed", output]
    if case.sampler == "KSampler" and not own:
        graph["patched"], model = node("PusaPatchModel", model=model), ["patched", 0]
    inputs = {"model": model, "positive": ["positive", 0], "negative": ["negative", 0], "seed": 7, "steps": 4}
    inputs |= {"cfg": case.cfg}
    if case.sampler == "KSampler":
        inputs |= {"latent_image": ["start", 0], "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    else:
        inputs |= {"latent": ["start", 0], "shift": 5.0}
    return used(graph | {"video": node(case.sampler, **inputs)}, "video")


def used(graph: Graph, name: str) -> Graph:
    """The nodes that ``name`` gets something from, and itself: ComfyUI refuses a graph with a node that it lacks."""
    links = [value[0] for value in graph[name]["inputs"].values() if isinstance(value, list)]
    before = {key: each for link in links for key, each in used(graph, link).items()}
    return {**before, name: graph[name]}
