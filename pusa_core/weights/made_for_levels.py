"""Checkpoints that were trained with a timestep for every frame, without a Pusa LoRA: SkyReels' video extension models.

Their files are Wan text-to-video models; only a name tells most of them. The smallest, V2-DF 1.3B, has an embedding of
the frame rate beside: a vector that its network adds to the modulation of all blocks.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from .quantised import QuantisedLayer, dequantise

_EMBEDDING = "fps_embedding.weight"
_PROJECTION = ("fps_projection.0", "fps_projection.2")
_DIFFUSERS = {"fps_projection.net.0.proj": _PROJECTION[0], "fps_projection.net.2": _PROJECTION[1]}
_BIAS = "time_projection.1.bias"
_AT_24_FPS = 1  # row of the embedding; row 0 is for 16 frames a second


@dataclass(frozen=True)
class MadeForLevels:
    """A family of checkpoints, and what its authors sample it with.

    ``given_frames``: pixel frames of a clip to go on from. ``noise_level``: of given frames.
    """

    name: str
    steps: int
    cfg: float
    shift: float
    fps: int
    given_frames: int
    noise_level: float = 0.0

    def describe(self) -> str:
        level = f" at noise level {self.noise_level:g}" if self.noise_level else ""
        return (
            f"{self.name}, made for a timestep per frame: use no Pusa LoRA; {self.steps} steps, cfg {self.cfg:g}, "
            f"shift {self.shift:g}, {self.fps} fps; to extend a clip give {self.given_frames} frames{level}"
        )


SKYREELS_V3 = MadeForLevels("SkyReels-V3-V2V", steps=8, cfg=1.0, shift=8.0, fps=24, given_frames=25)
SKYREELS_V2 = MadeForLevels(
    "SkyReels-V2-DF", steps=50, cfg=6.0, shift=8.0, fps=24, given_frames=17, noise_level=20 / 1000
)
_NAMES = {"skyreelsv3v2v": SKYREELS_V3, "skyreelsv2df": SKYREELS_V2}
"""By the letters and digits in the name of a file, or of the folders it is in."""


def made_for_levels(source: str | Path, names: Iterable[str] = ()) -> MadeForLevels | None:
    """The family of a file with tensors of these original ``names``; None for one that is not known to be of any."""
    if _EMBEDDING in names:
        return SKYREELS_V2
    letters = [re.sub(r"[^a-z0-9]", "", part.lower()) for part in Path(source).parts[-3:]]
    return next((family for mark, family in _NAMES.items() if any(mark in part for part in letters)), None)


def fold_frame_rate(
    weights: Mapping[str, Tensor], quantised: Mapping[str, QuantisedLayer], source: str
) -> dict[str, Tensor]:
    """The weights, with the embedding of 24 frames a second added to the bias of the time projection.

    That is where its network adds it (SkyReels-V2, ``transformer.py``), and it is the same at every time.
    Unchanged without such an embedding, or with one that is not whole.
    """

    def ours(name: str) -> str:
        layer, _, kind = name.rpartition(".")
        return f"{_DIFFUSERS.get(layer, layer)}.{kind}"

    parts = {ours(name): name for name in weights if name.startswith(("fps_embedding.", "fps_projection."))}
    needed = {_EMBEDDING, *(f"{layer}.{kind}" for layer in _PROJECTION for kind in ("weight", "bias"))}
    if parts.keys() != needed or _BIAS not in weights:
        return dict(weights)

    def part(name: str) -> Tensor:
        theirs = parts[name]
        return dequantise(weights[theirs], quantised.get(theirs.removesuffix(".weight")), theirs, source).float()

    first, second = ((part(f"{layer}.weight"), part(f"{layer}.bias")) for layer in _PROJECTION)
    rate = linear(silu(linear(part(_EMBEDDING)[_AT_24_FPS], *first)), *second)
    bias = weights[_BIAS]
    folded = {_BIAS: (bias.to(torch.float32) + rate).to(bias.dtype)}
    return {name: weight for name, weight in weights.items() if name not in parts.values()} | folded
