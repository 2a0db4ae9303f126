"""Wan DiT files -> one state dict with the original Wan names."""

import logging
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path

from torch import Tensor

from .names import container_prefix, original_name
from .weight_files import read_tensors

log = logging.getLogger(__name__)

_T2V_HINT = "load a Wan2.1 or Wan2.2-14B text-to-video checkpoint instead"


def original_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the Wan DiT in a file under their original names; all tensors if there is none.

    Raises ``ValueError`` when two tensors come to the same name.
    """
    prefix = container_prefix(tensors)
    if prefix is None:
        return dict(tensors)
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        ours = original_name(name.removeprefix(prefix))
        if name.startswith(prefix) and ours in renamed:
            raise ValueError(f"{name} and another tensor are both {ours}; the file mixes two models, pick another")
        if name.startswith(prefix):
            renamed[ours] = value
    return renamed


def check_text_to_video(state_dict: Mapping[str, Tensor], source: str) -> None:
    """Refuse everything but a Wan2.1 / Wan2.2-14B text-to-video DiT.

    Raises ``ValueError`` that says what ``source`` is and what to load instead.
    """
    if "head.modulation" not in state_dict or "patch_embedding.weight" not in state_dict:
        raise ValueError(f"{source} is not a Wan video model (first names: {sorted(state_dict)[:3]}); {_T2V_HINT}")
    in_dim = state_dict["patch_embedding.weight"].shape[1]
    if any(name.startswith("vace_") for name in state_dict):
        kind = "a VACE model"
    elif "img_emb.proj.0.bias" in state_dict or in_dim == 36:
        kind = f"an image-to-video model ({in_dim} input channels)"
    elif in_dim == 48:
        kind = "the Wan2.2-5B model (48 latent channels), which Pusa was not made for"
    elif in_dim != 16:
        kind = f"a Wan model of another kind ({in_dim} input channels)"
    elif "control_adapter.conv.weight" in state_dict:
        kind = "a camera-control model"
    else:
        return
    raise ValueError(f"{source} is {kind}; Pusa turns text-to-video models into all the others: {_T2V_HINT}")


def load_checkpoint(path: str | PathLike | Iterable[str | PathLike]) -> dict[str, Tensor]:
    """Load a Wan text-to-video DiT, whatever prefix its file uses, as tensors with the original Wan2.1 names.

    Args:
        path: a file, or the files of a sharded checkpoint.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is damaged, two shards name the same tensor, or it is not a text-to-video Wan model.
    """
    paths = [path] if isinstance(path, str | PathLike) else list(path)
    if not paths:
        raise ValueError("no checkpoint file given")
    tensors: dict[str, Tensor] = {}
    for shard in paths:
        part = read_tensors(shard)
        if twice := tensors.keys() & part.keys():
            raise ValueError(f"{shard} names tensors of an earlier shard again, such as {min(twice)}")
        tensors |= part
    state_dict = original_names(tensors)
    check_text_to_video(state_dict, source=", ".join(str(Path(shard)) for shard in paths))
    log.info("%s: Wan text-to-video model, %d tensors", Path(paths[0]).name, len(state_dict))
    return state_dict
