"""Shapes of a Wan diffusion transformer, read from its own weights."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

HEAD_DIM = 128  # of every released Wan model


@dataclass(frozen=True)
class WanConfig:
    """Shapes of the Wan2.1 / Wan2.2-14B text-to-video DiT.

    ``dim`` is the width of the token stream, ``in_dim`` and ``out_dim`` the latent channels, ``text_dim`` the width of
    the text encoder's output, ``freq_dim`` the number of sinusoidal features of a timestep, ``patch_size`` the latent
    voxels of a token (frames, rows, columns).
    """

    dim: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    in_dim: int = 16
    out_dim: int = 16
    text_dim: int = 4096
    freq_dim: int = 256
    patch_size: tuple[int, int, int] = (1, 2, 2)
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is not divisible by num_heads {self.num_heads}")
        if (self.dim // self.num_heads) % 2:
            raise ValueError(f"head width {self.dim // self.num_heads} is odd; rotary embedding needs an even one")

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor], num_heads: int | None = None) -> "WanConfig":
        """Read the shapes from weights with the original Wan names.

        The number of heads leaves no trace in the weights; without ``num_heads`` it is ``dim // 128``, as in every
        released model. Raises ``ValueError`` when the weights are not those of a Wan DiT.
        """
        if "head.modulation" not in state_dict or "patch_embedding.weight" not in state_dict:
            raise ValueError(
                f"not a Wan model: it has no 'head.modulation' and 'patch_embedding.weight' "
                f"(first names: {sorted(state_dict)[:3]}); pick a Wan2.1 or Wan2.2-14B text-to-video checkpoint"
            )
        dim = state_dict["head.modulation"].shape[-1]
        patch = state_dict["patch_embedding.weight"]
        frames, rows, columns = patch.shape[2:]
        blocks = {name.split(".")[1] for name in state_dict if name.startswith("blocks.")}
        return cls(
            dim=dim,
            ffn_dim=state_dict["blocks.0.ffn.0.weight"].shape[0],
            num_heads=num_heads or max(dim // HEAD_DIM, 1),
            num_layers=len(blocks),
            in_dim=patch.shape[1],
            out_dim=state_dict["head.head.weight"].shape[0] // (frames * rows * columns),
            text_dim=state_dict["text_embedding.0.weight"].shape[1],
            freq_dim=state_dict["time_embedding.0.weight"].shape[1],
            patch_size=(frames, rows, columns),
        )
