"""Faster arithmetic that is less exact: 8-bit attention, and 8-bit matrix products. For the command line.

In ComfyUI both are ComfyUI's own, as of any MODEL. Here a hook of PyTorch hands the network its attention kernel, and
torchao replaces the weights of its layers; the network itself knows of neither.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .attention import Attention, attention

BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
"""PyTorch's own kernels, all of them exact."""
DEFAULT, SAGE = "torch", "sage"
ATTENTIONS = (DEFAULT, *BACKENDS, SAGE)
PRODUCTS = ("int8", "fp8")
MULTIPLE = 16
"""Widths of layers whose weights are replaced are multiples of it; all of Wan's are."""


def attention_kernel(name: str) -> Attention:
    """The kernel of one of :data:`ATTENTIONS`. Raises ``ValueError`` for one that is not installed."""
    if name == DEFAULT:
        return attention
    if name == SAGE:
        if importlib.util.find_spec("sageattention") is None:
            raise ValueError(
                "attention sage needs the package sageattention and a GPU: pip install sageattention, or use another "
                f"attention: {', '.join((DEFAULT, *BACKENDS))}"
            )
        return sage_attention
    if name not in BACKENDS:
        raise ValueError(f'attention is "{name}"; use one of {", ".join(ATTENTIONS)}')

    def backend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(BACKENDS[name]):
            return attention(q, k, v)

    return backend


def sage_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """SageAttention: queries and keys in 8 bits, as its package chooses for the GPU (arXiv 2411.10958)."""
    from sageattention import sageattn

    return sageattn(q, k, v, tensor_layout="NHD", is_causal=False).flatten(2)


def use_attention(model: nn.Module, name: str) -> None:
    """Let ``model`` attend by the kernel ``name`` wherever its caller brings none of its own."""
    kernel = attention_kernel(name)
    if kernel is attention:
        return

    def add_kernel(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        own = kwargs.get("attend", attention)
        return args, {**kwargs, "attend": kernel if own is attention else own}

    model.register_forward_pre_hook(add_kernel, with_kwargs=True)


def use_8bit_products(model: nn.Module, kind: str) -> None:
    """Compute the matrix products of the blocks of ``model`` in 8 bits, by torchao: weights in 8 bits, inputs too.

    ``kind``: ``int8``; or ``fp8``, which needs a GPU that has it (compute capability 8.9). Every row of a weight and
    every token has a scale of its own. Raises ``ValueError`` without torchao, or on another device.
    """
    quantise, config = _torchao(kind)
    blocks: Any = model.blocks

    def fits(module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Linear) and not any(side % MULTIPLE for side in module.weight.shape)

    try:
        quantise(blocks, config, filter_fn=fits)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"8-bit products of the kind {kind} do not work here ({error}); use int8, or none") from error


def _torchao(kind: str) -> tuple[Callable[..., None], Any]:
    if kind not in PRODUCTS:
        raise ValueError(f'8-bit products of the kind "{kind}" are unknown; use one of {", ".join(PRODUCTS)}')
    if importlib.util.find_spec("torchao") is None:
        raise ValueError("8-bit products need the package torchao: pip install torchao")
    from torchao import quantization as ao

    if kind == "int8":
        return ao.quantize_, ao.Int8DynamicActivationInt8WeightConfig()
    return ao.quantize_, ao.Float8DynamicActivationFloat8WeightConfig(granularity=ao.PerRow())
