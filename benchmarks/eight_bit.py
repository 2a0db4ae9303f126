"""How far 8-bit attention and products lead a whole trajectory away: ``python -m benchmarks.eight_bit``.

The demo model, from pure noise and from a given first frame, and random weights of the 14B model's width, are sampled
in fp32, in bf16 and in bf16 with 8-bit arithmetic. The error of the latents of every step with respect to fp32 and to
bf16 is written to ``RESULTS-8bit.md``. Where the kernels cannot run (SageAttention needs a GPU, fp8 products one that
has them) a stand-in rounds as they do; the report says so. Every row is stored as soon as it is done.
"""

import argparse
import importlib.util
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo.training.machine import machine
from pusa_core import WanConfig, WanModel, euler_sample, flow_sigmas, guided_velocity, load_model, sigma_table
from pusa_core.media.demo_text import encode_text
from pusa_core.model.fast_arithmetic import use_8bit_products, use_attention
from pusa_core.weights.demo_files import LORA_STRENGTH

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
WIDE = WanConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=2 if CUDA else 1)
WIDE_SIZE = (21, 60, 104) if CUDA else (3, 8, 12)
E4M3 = torch.finfo(torch.float8_e4m3fn).max


@dataclass(frozen=True)
class Kind:
    """``change``: what it does to the model in bf16; ``stand_in``: whether that only rounds as the real one does."""

    name: str
    dtype: torch.dtype
    change: Callable[[WanModel], None] = lambda model: None
    stand_in: bool = False


def rounded(x: Tensor) -> Tensor:
    """In 8 bits, with a scale for each token and head."""
    scale = x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / 127
    return (x / scale).round() * scale


def rounding_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Queries and keys in 8 bits, keys less their mean, as SageAttention has them (arXiv 2410.02367)."""
    queries, keys = rounded(q.float()), rounded(k.float() - k.float().mean(dim=1, keepdim=True))
    out = F.scaled_dot_product_attention(queries.transpose(1, 2), keys.transpose(1, 2), v.float().transpose(1, 2))
    return out.transpose(1, 2).flatten(2).to(q)


class RoundingLinear(nn.Module):
    """A linear layer with weight and input in e4m3, with a scale for each row and token."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(e4m3(layer.weight), requires_grad=False), layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(e4m3(x), self.weight, self.bias)


def e4m3(x: Tensor) -> Tensor:
    scale = x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / E4M3
    return ((x / scale).to(torch.float8_e4m3fn).to(x.dtype) * scale).to(x.dtype)


def round_attention(model: WanModel) -> None:
    model.register_forward_pre_hook(
        lambda _, args, kwargs: (args, {**kwargs, "attend": rounding_attention}), with_kwargs=True
    )


def round_products(model: WanModel) -> None:
    for name, layer in list(model.blocks.named_modules()):
        if isinstance(layer, nn.Linear):
            parent, _, key = name.rpartition(".")
            setattr(model.blocks.get_submodule(parent), key, RoundingLinear(layer))


def kinds() -> list[Kind]:
    sage = CUDA and importlib.util.find_spec("sageattention") is not None
    fp8 = CUDA and torch.cuda.get_device_capability() >= (8, 9) and importlib.util.find_spec("torchao") is not None
    attend = partial(use_attention, name="sage") if sage else round_attention
    product = partial(use_8bit_products, kind="fp8") if fp8 else round_products

    def both(model: WanModel) -> None:
        attend(model)
        product(model)

    found = [
        Kind("bf16", torch.bfloat16),
        Kind("8-bit attention", torch.bfloat16, attend, not sage),
        Kind("fp8 products", torch.bfloat16, product, not fp8),
        Kind("8-bit attention, fp8 products", torch.bfloat16, both, not (sage and fp8)),
    ]
    if importlib.util.find_spec("torchao") is not None:
        found.append(Kind("int8 products", torch.bfloat16, partial(use_8bit_products, kind="int8")))
    return found


def wide_model() -> WanModel:
    """Random weights that keep the scale of what goes through them."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = WanModel(WIDE)
    model.to_empty(device=DEVICE)
    for name, parameter in model.named_parameters():
        width = parameter[0].numel() if parameter.ndim > 1 else 0
        mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        nn.init.normal_(parameter, mean, width**-0.5 if width else 0.02)
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[], WanModel]
    size: tuple[int, int, int]
    steps: int
    cfg: float
    given: bool = False

    def trajectory(self, kind: Kind) -> Tensor:
        """The latents after every step ``[steps, C, F, H, W]``, fp32."""
        model = self.build().to(DEVICE, kind.dtype)
        kind.change(model)
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(1, model.config.in_dim, *self.size, generator=generator).to(DEVICE)
        levels = torch.ones(self.size[0])
        levels[0] = 0.0 if self.given else 1.0
        context, empty = (encode_text(text).to(DEVICE, kind.dtype) for text in ("a large red square moves left", ""))

        def network(latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
            return model(latents.to(kind.dtype), timestep, text).float()

        seen: list[Tensor] = []
        velocity = guided_velocity(network, context, empty if self.cfg != 1 else None, self.cfg)
        table = sigma_table(flow_sigmas(self.steps), levels)
        with torch.inference_mode():
            last = euler_sample(velocity, noise, table, callback=lambda _, __, latents: seen.append(latents.clone()))
        return torch.stack([*seen[1:], last])[:, 0].cpu()


def demo() -> WanModel:
    return load_model("demo", [("demo", LORA_STRENGTH)], device=DEVICE, dtype=torch.float32)


def error(found: Tensor, reference: Tensor) -> list[float]:
    """After each step, the root of the mean squared difference, in standard deviations of the reference."""
    return [((a - b).square().mean().sqrt() / b.std()).item() for a, b in zip(found, reference, strict=True)]


def measure(case: Case, rows: dict[str, dict], save: Callable[[], None]) -> None:
    """The rows of a case that are missing. The references are computed again where one is."""
    missing = [kind for kind in kinds() if f"{case.name}, {kind.name}" not in rows]
    if not missing:
        return
    exact = case.trajectory(Kind("fp32", torch.float32))
    bf16 = case.trajectory(Kind("bf16", torch.bfloat16))
    for kind in missing:
        found = case.trajectory(kind)
        rows[f"{case.name}, {kind.name}"] = {
            "case": case.name,
            "kind": kind.name + (" (stand-in)" if kind.stand_in else ""),
            "fp32": error(found, exact),
            "bf16": error(found, bf16),
        }
        save()
        log.info("%s, %s: %.4f", case.name, kind.name, error(found, exact)[-1])


def report(found: dict) -> str:
    lines = [
        "# 8-bit arithmetic: the error of a trajectory",
        "",
        f"Written by `python -m benchmarks.eight_bit` ({found['machine']}). Root mean square difference of the latents "
        "from those of fp32 and of bf16 from the same noise, in standard deviations of these, after the first step and "
        "after the last. *Stand-in*: the kernel does not run on this machine; queries, keys, weights and inputs are "
        "rounded as it rounds them, and the products are exact. The 14B-shaped model has random weights "
        f"({found['wide']}), which no training has made robust. Speed on a GPU: not measured.",
        "",
        "| model | arithmetic | to fp32, first step | to fp32, last | to bf16, first step | to bf16, last |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["rows"].values():
        cells = [f"{row[name][place]:.4f}" for name in ("fp32", "bf16") for place in (0, -1)]
        lines.append(f"| {row['case']} | {row['kind']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    cases = [
        Case("demo, text to video", demo, (21, 8, 8), args.steps, 3.0),
        Case("demo, image to video", demo, (21, 8, 8), args.steps, 3.0, given=True),
        Case("14B-shaped", wide_model, WIDE_SIZE, args.steps, 1.0),
    ]
    store = HERE / f"eight-bit-{DEVICE}.json"
    found = json.loads(store.read_text()) if store.exists() else {"rows": {}}
    found |= {
        "machine": machine(),
        "wide": f"{WIDE.num_layers} of its 40 layers, {WIDE_SIZE[0]} x {WIDE_SIZE[1]} x {WIDE_SIZE[2]} latents",
    }

    def save() -> None:
        store.write_text(json.dumps(found, indent=1) + "\n")

    for case in cases:
        measure(case, found["rows"], save)
    (HERE / "RESULTS-8bit.md").write_text(report(found))


if __name__ == "__main__":
    main()
