"""Newer versions of ComfyUI's Wan network, imitated; a script for ComfyUI's own Python, from its folder.

Prints one JSON object. ``preferred``: the layers whose own attention was called, and ``difference``: ours from the
native network with the same choices. ``names``: whether ours saves what the native network saves. ``kept``: by name,
the warning about a network that ours cannot stand for, which the MODEL then keeps.
"""

import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from in_comfyui import load_pack
from torch import Tensor, nn

load_pack()
import comfy.ldm.wan.model as native  # noqa: E402
from run_hooks import make_model, two_steps  # noqa: E402

network: Any = importlib.import_module("pack.nodes.comfyui.network")


class Container:
    """Holds a tensor for the attention to take, so that nobody else keeps it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor: Tensor | None = tensor

    def take(self) -> Tensor:
        tensor, self.tensor = self.tensor, None
        assert tensor is not None, "taken twice"
        return tensor


class Choice(nn.Module):
    """The child of every attention: a backend that the checkpoint prefers for this layer, or None."""

    def __init__(self) -> None:
        super().__init__()
        self.function: Callable[..., Tensor] | None = None

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[prefix + "config"] = torch.zeros(1, dtype=torch.uint8)


@contextmanager
def newer_attention() -> Iterator[None]:
    """ComfyUI's attention taking containers and a layer's choice; the native layers hand both to it."""
    plain = native.optimized_attention

    def attention(q: Any, k: Any, v: Any, *args: Any, preferred_attention: Any = None, **kwargs: Any) -> Tensor:
        q, k, v = (each.take() if isinstance(each, Container) else each for each in (q, k, v))
        chosen = plain if preferred_attention is None else preferred_attention.function or plain
        return chosen(q, k, v, *args, **kwargs)

    def handing_over(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def newer(self: Any, *args: Any, **kwargs: Any) -> Tensor:
            def hand(q: Tensor, k: Tensor, v: Tensor, *rest: Any, **settings: Any) -> Tensor:
                settings["preferred_attention"] = self.comfy_attention
                return attention(Container(q), Container(k), Container(v), *rest, **settings)

            native.optimized_attention = hand
            try:
                return forward(self, *args, **kwargs)
            finally:
                native.optimized_attention = attention

        return newer

    kinds = native.WanSelfAttention, native.WanT2VCrossAttention
    before = [kind.forward for kind in kinds]
    native.optimized_attention = attention
    for kind, forward in zip(kinds, before, strict=True):
        kind.forward = handing_over(forward)
    try:
        yield
    finally:
        native.optimized_attention = plain
        for kind, forward in zip(kinds, before, strict=True):
            kind.forward = forward


def with_choices(ours: bool, called: list[str]) -> Any:
    """A MODEL whose attentions have the child; the second block's prefer another."""
    model = make_model(ours=False)
    for name, module in list(model.model.diffusion_model.named_modules()):
        if isinstance(module, native.WanSelfAttention):
            module.comfy_attention = Choice()
            if name.startswith("blocks.1."):

                def other(q: Tensor, k: Tensor, v: Tensor, *args: Any, name: str = name, **kwargs: Any) -> Tensor:
                    called.append(name)
                    return q * 0.3 + v.mean(1, keepdim=True)

                module.comfy_attention.function = other
    if ours:
        model.model.diffusion_model = network.adopt(model.model.diffusion_model)
    return model


def kept(change: Callable[[Any], None]) -> str:
    """The warning about a native network after ``change``; fails if it does not stay as it was, and run."""
    model = make_model(ours=False)
    change(model.model.diffusion_model)
    kinds = [type(module) for module in model.model.diffusion_model.modules()]
    warnings: list[str] = []
    network.warn = warnings.append
    model.model.diffusion_model = network.adopt(model.model.diffusion_model)
    assert [type(module) for module in model.model.diffusion_model.modules()] == kinds
    assert two_steps(model).isfinite().all()
    (warning,) = warnings
    return warning


def new_layer(native_network: Any) -> None:
    native_network.fps_embedding = nn.Embedding(2, 256)


def new_class(native_network: Any) -> None:
    native_network.blocks[1].self_attn.__class__ = type("WanGatedAttention", (native.WanSelfAttention,), {})


def new_feed_forward(native_network: Any) -> None:
    native_network.blocks[1].ffn.__class__ = type("WanGatedFeedForward", (nn.Sequential,), {})


def new_network(native_network: Any) -> None:
    native_network.__class__ = type("WanNetwork", (native.WanModel,), {})


def main() -> None:
    called: list[str] = []
    with newer_attention():
        models = [with_choices(ours, called) for ours in (False, True)]
        expected = two_steps(models[0])
        first, called[:] = list(called), []
        difference = (two_steps(models[1]) - expected).abs().max().item()
    names = [list(model.model.diffusion_model.state_dict()) for model in models]
    messages = {change.__name__: kept(change) for change in (new_layer, new_class, new_feed_forward, new_network)}
    result = {"preferred": called, "same calls": called == first, "difference": difference, "kept": messages}
    print(
        json.dumps({**result, "names": names[0] == names[1], "choices": sum("comfy_attention" in n for n in names[1])})
    )


if __name__ == "__main__":
    with torch.inference_mode():
        main()
