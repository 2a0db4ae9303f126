"""einops' ``rearrange`` for code that is compiled: one node of the graph (:mod:`.compile`).

Traced as Python, its pattern parser would be compiled anew at every call: ten times the tracing time of the DiT.
"""

import einops
from torch import Tensor


def rearrange(tensor: Tensor, pattern: str, **lengths: int) -> Tensor:
    """``einops.rearrange``, such as ``rearrange(x, "b n (heads d) -> b n heads d", heads=12)``."""
    return einops.rearrange(tensor, pattern, **lengths)
