"""Checkpoint and LoRA files -> a :class:`WanModel` that is ready to sample."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike

import torch

from ..model.device import best_device, default_dtype
from ..model.dit import WanModel
from .checkpoints import Checkpoint, expected_shapes, read_checkpoint
from .demo_files import DIT, file_or_demo, lora_file
from .lora import Lora, check_strength, load_lora, match_lora, merge_lora

log = logging.getLogger(__name__)

LORA_STRENGTH = 1.4
"""Of the published Pusa LoRAs, by the paper and its authors."""

Paths = str | PathLike | Iterable[str | PathLike]


@dataclass(frozen=True)
class ModelFiles:
    """A checkpoint and its LoRAs, parsed and matched to each other. The weights are still on disk (memory-mapped)."""

    checkpoint: Checkpoint
    loras: tuple[tuple[Lora, float], ...]

    def describe(self) -> str:
        """The files' names and the LoRAs' strengths, as text."""
        loras = (f"LoRA {lora.name or 'without a name'} at strength {strength:g}" for lora, strength in self.loras)
        return ", ".join([self.checkpoint.name, *loras])

    def build(self, device: torch.device | str, dtype: torch.dtype, *, offload: bool = False) -> WanModel:
        """The network in eval mode, LoRAs merged. See :func:`load_model`."""
        with torch.device("meta"):
            model = WanModel(self.checkpoint.config)
        home = torch.device("cpu" if offload else device)
        # one weight at a time: a quantised file is never in memory twice
        weights = {name: weight.to(home, dtype) for name, weight in self.checkpoint.dequantised()}
        model.load_state_dict(weights, assign=True)
        model = model.eval().requires_grad_(False)
        model.source = self.describe()
        for lora, strength in self.loras:
            merge_lora(model, lora, strength)
        if offload:
            offload_blocks(model, device)
        return model


def read_model_files(path: Paths, loras: Sequence[tuple[str | PathLike, float]] = ()) -> ModelFiles:
    """Parse the files of :func:`load_model`; reads headers, not weights, and raises what :func:`load_model` raises."""
    for file, strength in loras:
        check_strength(strength, f"of {file}")
    checkpoint = read_checkpoint(file_or_demo(path, DIT) if isinstance(path, str | PathLike) else path)
    shapes = dict(expected_shapes(checkpoint.config))
    read = tuple((load_lora(lora_file(file)), strength) for file, strength in loras)
    for lora, _ in read:
        log.info("%s", match_lora(lora, shapes).describe())
    return ModelFiles(checkpoint, read)


def load_model(
    path: Paths,
    loras: Sequence[tuple[str | PathLike, float]] = (),
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    offload: bool = False,
) -> WanModel:
    """Load a Wan text-to-video DiT and merge LoRAs into it.

    Args:
        path: what :func:`load_checkpoint` reads: a file, an index or one of several shards, or a list of files; or
            ``"demo"`` for the embedded demo model.
        loras: LoRA files (:func:`load_lora`) with their strengths, such as ``[("pusa_v1.safetensors", 1.4)]``; the
            demo model's is ``("demo", 1.0)``.
        device: of the weights; by default ``cuda`` or ``mps`` where there is one, else ``cpu``.
        dtype: of the weights; by default bf16, on a CPU fp32.
        offload: keep the weights in main memory and copy each block to ``device`` while the one before it computes.
            Needs the ``standalone`` extra (diffusers).

    Returns:
        The network in eval mode, without gradients.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a damaged file, not a text-to-video Wan model, or a LoRA of another model or size.
    """
    device = best_device() if device is None else device
    return read_model_files(path, loras).build(device, dtype or default_dtype(device), offload=offload)


def offload_blocks(model: WanModel, device: torch.device | str) -> None:
    """Leave the weights in main memory; each block's are copied to ``device`` while the one before it computes."""
    from diffusers.hooks import apply_group_offloading  # the standalone extra

    device = torch.device(device)
    apply_group_offloading(
        model,
        onload_device=device,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )
