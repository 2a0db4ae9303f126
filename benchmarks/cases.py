"""The measured cases: network and video shapes."""

from dataclasses import dataclass

from pusa_core import WanConfig


@dataclass(frozen=True)
class Case:
    """A network at several latent sizes (frames, height, width).

    Only some layers of the network are measured: blocks are identical, so the time of a step is proportional to their
    number. ``compiled``: sizes at which the compiled networks are also measured.
    """

    name: str
    config: WanConfig
    dtype: str
    sizes: tuple[tuple[int, int, int], ...]
    compiled: tuple[tuple[int, int, int], ...] = ()
    text: int = 512


SIZE_480P, SIZE_720P = (21, 60, 104), (21, 90, 160)  # 81 frames of 480 x 832 and of 720 x 1280
GROWTH = (SIZE_480P, (5, 44, 92), (11, 44, 92), (21, 44, 92), (21, 80, 124), SIZE_720P)  # 5k to 76k tokens

CASES = {
    "cpu": (
        Case(
            "width 256, 2 heads, 6 layers, fp32",
            WanConfig(dim=256, ffn_dim=1024, num_heads=2, num_layers=6),
            "float32",
            ((21, 8, 8), (21, 16, 16), (21, 32, 32)),
        ),
        Case(
            "width of the 1.3B model, 3 layers, fp32",
            WanConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=3),
            "float32",
            ((5, 30, 26), (5, 60, 26), (5, 60, 52), (10, 60, 52)),
        ),
    ),
    "cuda": (
        Case(
            "shape of the 14B model, 4 of 40 layers, bf16",
            WanConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=4),
            "bfloat16",
            GROWTH,
            compiled=(SIZE_480P,),
        ),
        Case(
            "shape of the 1.3B model, 6 of 30 layers, bf16",
            WanConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=6),
            "bfloat16",
            (SIZE_480P, SIZE_720P),
        ),
    ),
    "smoke": (
        Case(
            "width 128, 1 head, 2 layers, fp32",
            WanConfig(dim=128, ffn_dim=256, num_heads=1, num_layers=2),
            "float32",
            ((3, 8, 8), (5, 8, 8)),
            compiled=((3, 8, 8),),
            text=16,
        ),
    ),
}
"""``smoke`` only tests the benchmark; its figures are meaningless."""
