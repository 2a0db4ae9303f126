"""Tensor names of Wan files -> the original ones, those of the released Wan2.1 files.

Three naming schemes: original, diffusers (``blocks.0.attn1.to_q``), and either of them with underscores for dots
(``lora_unet_blocks_0_self_attn_q``), as LoRA trainers write them. Any of them may have a prefix.
"""

import re
from collections.abc import Iterable

PREFIXES = (
    "model.diffusion_model.",
    "diffusion_model.",
    "model.",
    "net.",
    "transformer.",
    "transformer_2.",  # Wan2.2's low-noise expert in diffusers
    "base_model.model.",
    "pipe.dit.",
    "dit.",
    "unet.",
    "module.",
    "_orig_mod.",  # of torch.compile
)
UNDERSCORE_PREFIXES = ("lora_unet__", "lora_unet_", "lora_transformer_2_", "lora_transformer_", "lycoris_")

# tensors that only a Wan DiT has, in the original and in the diffusers scheme
_MARKS = ("head.modulation", "condition_embedder.time_proj.weight")

_ATTENTION = ("q", "k", "v", "o", "norm_q", "norm_k", "k_img", "v_img", "norm_k_img")
_THEIR_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "norm_q", "norm_k", "add_k_proj", "add_v_proj", "norm_added_k")
_BLOCK = {
    f"{theirs}.{part}": f"{ours}.{name}"
    for theirs, ours in (("attn1", "self_attn"), ("attn2", "cross_attn"))
    for part, name in zip(_THEIR_ATTENTION, _ATTENTION, strict=True)
} | {
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "norm2": "norm3",  # the norm with weights; the original norm2 has none, so the two never meet in one file
    "scale_shift_table": "modulation",
}
_OUTSIDE = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.image_embedder.norm1": "img_emb.proj.0",
    "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
    "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
    "condition_embedder.image_embedder.norm2": "img_emb.proj.4",
    "scale_shift_table": "head.modulation",
    "proj_out": "head.head",
}
_UNDERSCORED = {
    dotted.replace(".", "_"): ours
    for table in (_BLOCK, _OUTSIDE, {"patch_embedding": "patch_embedding"})
    for theirs, ours in table.items()
    for dotted in (theirs, ours)
}
_IN_BLOCK = re.compile(r"(blocks\.\d+\.)?(.+)", re.DOTALL)
_UNDERSCORED_IN_BLOCK = re.compile(r"(?:blocks_(\d+)_)?(.+)", re.DOTALL)


def original_name(name: str) -> str:
    """Diffusers name of a tensor or layer -> original name, both without prefix; other names are returned unchanged."""
    name = name.replace("._orig_mod.", ".")  # of a block that was compiled alone
    block, rest = _split(_IN_BLOCK, name)
    for theirs, ours in (_BLOCK if block else _OUTSIDE).items():
        if rest == theirs or rest.startswith(theirs + "."):
            return f"{block}{ours}{rest[len(theirs) :]}"
    return name


def layer_name(name: str) -> str:
    """Layer name in a LoRA file, of any scheme and with its prefix -> original name."""
    name = without_prefixes(name)
    for prefix in UNDERSCORE_PREFIXES:
        if name.startswith(prefix):
            # some trainers keep the dots inside a block: lora_unet_blocks_0.cross_attn.k
            block, rest = _split(_UNDERSCORED_IN_BLOCK, name.removeprefix(prefix).replace(".", "_"))
            known = _UNDERSCORED.get(rest)
            return name if known is None else f"blocks.{block}.{known}" if block else known
    return original_name(name)


def spelling(names: Iterable[str]) -> str:
    """Naming scheme and prefix of a file's tensor names, as text for a report."""
    names = list(names)
    prefix = next((name[: len(name) - len(without_prefixes(name))] for name in names), "")
    if 2 * sum(name.startswith(UNDERSCORE_PREFIXES) for name in names) > len(names):
        return "names with underscores (kohya, musubi)"
    bare = [without_prefixes(name) for name in names]
    family = "diffusers" if any(original_name(name) != name for name in bare) else "original"
    return f"{family} names" + (f' behind "{prefix}"' if prefix else "")


def container_prefix(names: Iterable[str]) -> str | None:
    """The prefix of the DiT's tensors in a checkpoint; None if it has no Wan DiT."""
    names = set(names)
    return next((prefix for prefix in ("", *PREFIXES) for mark in _MARKS if prefix + mark in names), None)


def without_prefixes(name: str) -> str:
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), ""):
        name = name.removeprefix(prefix)
    return name


def _split(pattern: re.Pattern[str], name: str) -> tuple[str, str]:
    match = pattern.fullmatch(name)
    return (match[1] or "", match[2]) if match else ("", name)
