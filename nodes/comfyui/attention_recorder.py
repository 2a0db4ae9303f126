"""Records self-attention of selected blocks during sampling, through ComfyUI's block and attention patches."""

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
OVERRIDE = "optimized_attention_override"  # ComfyUI calls it instead of its attention, which is the first argument
POSITIVE = 0  # of the positive prompt in ComfyUI's cond_or_uncond


def record_attention(model: ModelPatcher, recorder: AttentionRecorder, sigmas: Tensor) -> ModelPatcher:
    """A clone of ``model`` that passes its self-attention to ``recorder``, for the positive prompt only.

    ``sigmas [steps + 1]`` are those of the whole run; the current step is derived from them. Works for our network and
    ComfyUI's own.
    """
    patched = model.clone()
    patched.remove_wrappers_with_key(WrappersMP.DIFFUSION_MODEL, KEY)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, partial(record_blocks, recorder, sigmas))
    return patched


def record_blocks(
    recorder: AttentionRecorder,
    sigmas: Tensor,
    executor: Callable[..., Tensor],
    x: Tensor,
    timestep: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Wrapper of the network that patches the selected blocks for this call if the step is to be recorded."""
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
        blocks["double_block", index] = partial(record_block, record, blocks.get(("double_block", index)))
    options = {**options, "patches_replace": {**patches, "dit": blocks}}
    if len(args) > 3:
        return executor(x, timestep, *args[:3], options, *args[4:], **kwargs)
    return executor(x, timestep, *args, **{**kwargs, "transformer_options": options})


def positive_rows(cond_or_uncond: list[int], batch: int) -> list[int]:
    """The batch rows of the positive prompt; ComfyUI batches several conditionings into one call."""
    size = batch // len(cond_or_uncond)
    return [row for row in range(batch) if cond_or_uncond[row // size] == POSITIVE]


def record_rows(
    recorder: AttentionRecorder, index: int, frames: int, rows: list[int], q: Tensor, k: Tensor, heads: int
) -> None:
    """Record ``rows`` of ``q, k [B, N, heads * d]``."""
    q, k = (rearrange(x[rows], "b n (heads d) -> b n heads d", heads=heads) for x in (q, k))
    recorder.record(index, q, k, frames)


def record_block(
    record: Callable[[Tensor, Tensor, int], None],
    inner: Callable[..., dict[str, Any]] | None,
    args: dict[str, Any],
    extra: dict[str, Any],
) -> dict[str, Any]:
    """Block patch that records the block's first attention, the self-attention.

    ``inner``: a patch of this block that was already in place; it is called inside.
    """
    options = args["transformer_options"]
    override, recorded = options.get(OVERRIDE), False

    def attend(attention: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
        nonlocal recorded
        if not recorded:
            recorded = True
            record(q, k, kwargs["heads"] if "heads" in kwargs else rest[0])
        if override is None:
            return attention(q, k, v, *rest, **kwargs)
        return override(attention, q, k, v, *rest, **kwargs)

    args = {**args, "transformer_options": {**options, OVERRIDE: attend}}
    return extra["original_block"](args) if inner is None else inner(args, extra)


def show_progress() -> Callable[[int, int], None]:
    """A callback ``report(done, total)`` for the node's progress bar; raises ComfyUI's exception on Interrupt."""
    bar = comfy.utils.ProgressBar(1)
    return lambda done, total: bar.update_absolute(done, total)
