"""Self-attention of chosen blocks, heard while ComfyUI samples, by ComfyUI's own patches of blocks and of attention."""

from collections.abc import Callable
from functools import partial
from typing import Any

import comfy.utils
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from einops import rearrange
from torch import Tensor

from ...pusa_core.analysis import AttentionRecorder

KEY = "pusa_attention_map"
OVERRIDE = "optimized_attention_override"  # of ComfyUI: called in place of its attention, with it as first argument
POSITIVE = 0  # in ComfyUI's cond_or_uncond


def record_attention(model: ModelPatcher, recorder: AttentionRecorder, sigmas: Tensor) -> ModelPatcher:
    """A clone of ``model`` whose self-attention ``recorder`` hears, for the positive prompt alone.

    ``sigmas [steps + 1]`` are those of the whole run: they tell the step. Works for our network and ComfyUI's own.
    """
    patched = model.clone()
    patched.remove_wrappers_with_key(WrappersMP.DIFFUSION_MODEL, KEY)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, partial(hear_blocks, recorder, sigmas))
    return patched


def hear_blocks(
    recorder: AttentionRecorder,
    sigmas: Tensor,
    executor: Callable[..., Tensor],
    x: Tensor,
    timestep: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Wrapper of the network: in a step to record, its chosen blocks are patched for this one call."""
    options = args[3] if len(args) > 3 else kwargs["transformer_options"]
    recorder.step = int((sigmas[:-1] - options["sigmas"].flatten()[0].cpu()).abs().argmin())
    rows = positive_rows(options["cond_or_uncond"], len(x))
    if not recorder.listening or not rows:
        return executor(x, timestep, *args, **kwargs)
    if options.get("context_window") is not None:
        raise ValueError("model works in context windows, which have no map of the whole video; remove that node")
    patches = options.get("patches_replace", {})
    blocks = dict(patches.get("dit", {}))
    for index in recorder.blocks:
        record = partial(record_rows, recorder, index, x.shape[2], rows)
        blocks["double_block", index] = partial(hear_block, record, blocks.get(("double_block", index)))
    options = {**options, "patches_replace": {**patches, "dit": blocks}}
    if len(args) > 3:
        return executor(x, timestep, *args[:3], options, *args[4:], **kwargs)
    return executor(x, timestep, *args, **{**kwargs, "transformer_options": options})


def positive_rows(cond_or_uncond: list[int], batch: int) -> list[int]:
    """The rows of a batch that are of the positive prompt: ComfyUI puts several conditionings into one call."""
    size = batch // len(cond_or_uncond)
    return [row for row in range(batch) if cond_or_uncond[row // size] == POSITIVE]


def record_rows(
    recorder: AttentionRecorder, index: int, frames: int, rows: list[int], q: Tensor, k: Tensor, heads: int
) -> None:
    """Record ``q, k [B, N, heads * d]``, of which ``rows`` count."""
    recorder.record(index, *(rearrange(x[rows], "b n (heads d) -> b n heads d", heads=heads) for x in (q, k)), frames)


def hear_block(
    record: Callable[[Tensor, Tensor, int], None],
    before: Callable[..., dict[str, Any]] | None,
    args: dict[str, Any],
    extra: dict[str, Any],
) -> dict[str, Any]:
    """Patch of a block: the first attention in it, which is the self-attention, is recorded; the rest stays."""
    options = args["transformer_options"]
    override, heard = options.get(OVERRIDE), False

    def attend(attention: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
        nonlocal heard
        if not heard:
            heard = True
            record(q, k, kwargs["heads"] if "heads" in kwargs else rest[0])
        if override is None:
            return attention(q, k, v, *rest, **kwargs)
        return override(attention, q, k, v, *rest, **kwargs)

    args = {**args, "transformer_options": {**options, OVERRIDE: attend}}
    return extra["original_block"](args) if before is None else before(args, extra)


def show_progress() -> Callable[[int, int], None]:
    """``report(done, total)`` that moves the node's progress bar; an interrupt by the user ends the work there."""
    bar = comfy.utils.ProgressBar(1)
    return lambda done, total: bar.update_absolute(done, total)
