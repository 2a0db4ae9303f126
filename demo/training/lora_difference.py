"""What further training has changed of a LoRA, as a small LoRA to use beside it.

``python -m demo.training.lora_difference BEFORE AFTER OUT --rank 16``: for every layer, the best approximation of that
rank of the difference of the two updates.
"""

import argparse
import logging
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

log = logging.getLogger(__name__)

DOWN, UP = ".lora_A.weight", ".lora_B.weight"


def difference(before: dict[str, Tensor], after: dict[str, Tensor], rank: int) -> tuple[dict[str, Tensor], float]:
    """The tensors of the difference, bf16, and the share of it that they hold: mean over layers, of squares."""
    tensors, shares = {}, []
    for layer in sorted(name.removesuffix(DOWN) for name in before if name.endswith(DOWN)):
        old, new = (each[layer + UP].float() @ each[layer + DOWN].float() for each in (before, after))
        left, values, right = torch.linalg.svd(new - old, full_matrices=False)
        root = values[:rank].sqrt()
        tensors[layer + DOWN] = (root[:, None] * right[:rank]).bfloat16().contiguous()
        tensors[layer + UP] = (left[:, :rank] * root).bfloat16().contiguous()
        shares.append((values[:rank].square().sum() / values.square().sum()).item())
    return tensors, sum(shares) / len(shares)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("before", "after", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--rank", type=int, default=16)
    args = parser.parse_args()
    tensors, share = difference(load_file(args.before), load_file(args.after), args.rank)
    with safe_open(args.after, framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors, args.out, metadata)
    log.info("rank %d holds %.1f %% of the difference", args.rank, 100 * share)


if __name__ == "__main__":
    main()
