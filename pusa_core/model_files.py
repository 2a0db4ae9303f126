"""A checkpoint and its LoRAs, from files to a network."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from .checkpoints import Checkpoint, expected_shapes, read_checkpoint
from .dit import WanModel
from .lora import Lora, load_lora, match_lora, merge_lora

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFiles:
    """A checkpoint and its LoRAs, read and checked against each other; the weights are still on disk (mapped)."""

    checkpoint: Checkpoint
    loras: list[tuple[Lora, float]]

    @classmethod
    def read(cls, path: Path, loras: list[tuple[Path, float]]) -> "ModelFiles":
        checkpoint = read_checkpoint(path)
        shapes = dict(expected_shapes(checkpoint.config))
        read = [(load_lora(file), strength) for file, strength in loras]
        for lora, _ in read:
            log.info("%s", match_lora(lora, shapes).describe())
        return cls(checkpoint, read)

    def build(self, device: str, dtype: torch.dtype) -> WanModel:
        with torch.device("meta"):
            model = WanModel(self.checkpoint.config)
        # one weight after the other, so that a quantised file is never there twice in a larger format
        weights = {name: weight.to(device, dtype) for name, weight in self.checkpoint.dequantised()}
        model.load_state_dict(weights, assign=True)
        model = model.eval().requires_grad_(False)
        for lora, strength in self.loras:
            merge_lora(model, lora, strength)
        return model


def offload(model: WanModel, device: str) -> None:
    """Leave the weights in main memory; each block's are brought to ``device`` while the block before it computes.

    Needs the ``standalone`` extra.
    """
    from diffusers.hooks import apply_group_offloading

    apply_group_offloading(
        model,
        onload_device=torch.device(device),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.startswith("cuda"),
    )
