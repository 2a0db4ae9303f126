"""What ``torch.compile`` has to know of this package.

Importing the compiler takes as long as importing PyTorch, so it is told when a model is built and not before: as
decorators, these three lines would double the time that every command takes to start.
"""

from functools import cache

import torch
from torch import nn

from .attention import Block
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


SIZES = 64  # graphs of one function; PyTorch's own limit of 8 is reached with four sizes of clips


def compiled(block: nn.Module) -> Block:
    """A block as one compiled graph for each size, the same for all blocks of a model.

    It raises the compiler's error where it cannot be compiled as a whole: it never falls back to eager execution. Sizes
    do not share a graph, whose last bits would depend on which one came first.
    """
    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    setattr(torch._dynamo.config, limit, max(SIZES, getattr(torch._dynamo.config, limit)))
    return torch.compile(block, fullgraph=True, dynamic=False)
