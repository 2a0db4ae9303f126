"""The options of one call of ComfyUI's guider: a wrapper of the network that is there for this call alone.

EasyCache and LazyCache, which skip a step when the latents have changed little since the last one, are set up to work
with it: what they know is in one object in the ``transformer_options`` of a sampling run.
"""

from collections.abc import Callable
from typing import Any

from comfy.model_patcher import create_model_options_clone
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

STEP_CACHE = "easycache"
"""In ``transformer_options``: the object of either cache."""

COPY = "pusa_copy"


def with_wrapper(
    model_options: dict[str, Any], key: str, wrapper: Callable[..., Any], areas: bool, **transformer_options: Any
) -> dict[str, Any]:
    """A copy of ``model_options`` with ``wrapper`` around the network, and further ``transformer_options``.

    ``areas``: noise levels vary within frames. By default a cache looks at every eighth row and column; where all of
    these are given, nothing that it sees ever changes, and it skips no step. With areas it looks at all latents.
    """
    options = create_model_options_clone(model_options)
    add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, key, wrapper, options, is_model_options=True)
    inner = options["transformer_options"]
    inner |= transformer_options
    if (cache := inner.get(STEP_CACHE)) is not None:
        wrappers = inner["wrappers"]
        wrappers[WrappersMP.DIFFUSION_MODEL] = {COPY: [copy_latents], **wrappers[WrappersMP.DIFFUSION_MODEL]}
        if areas:
            cache.subsample_factor = 1
    return options


def copy_latents(executor: Callable[..., Any], x: Tensor | list[Tensor], *args: Any, **kwargs: Any) -> Any:
    """Outermost wrapper of the network: gives EasyCache latents of its own.

    It adds to its input in place. Where the network computes in fp32, that is the very tensor from which ComfyUI then
    forms the clean estimate.
    """
    return executor(x.clone() if isinstance(x, Tensor) else [each.clone() for each in x], *args, **kwargs)
