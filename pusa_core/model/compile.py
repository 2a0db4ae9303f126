"""What ``torch.compile`` has to know of this package.

Importing the compiler takes as long as importing PyTorch, so it is told when a model is built and not before: as
decorators, these three lines would double the time that every command takes to start.
"""

from functools import cache

import torch

from .axes import rearrange
from .kv_cache import KVCache
from .rope import constant_positions


@cache
def prepare_compiler() -> None:
    """To be called before anything of this package is compiled."""
    # traced as Python, the parser of the pattern would be compiled anew at every call
    torch.compiler.allow_in_graph(rearrange)
    torch.compiler.assume_constant_result(constant_positions)
    # its state changes at every call: a compiler would guard on it, and compile again; the network may be compiled
    KVCache.velocity = torch.compiler.disable(KVCache.velocity)  # type: ignore[method-assign]
