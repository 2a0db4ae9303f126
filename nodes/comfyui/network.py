"""Our DiT inside a ComfyUI MODEL.

The network that ComfyUI has loaded becomes ours in place (:mod:`.wan`), so that everything ComfyUI and other packs do
to a MODEL (LoRA, offloading, attention backends, wrappers, patches) keeps working. Where a version of ComfyUI has a
network that ours cannot stand for, the MODEL keeps it.
"""

from collections.abc import Hashable
from typing import Any

from ...pusa_core.model.kv_cache import FrozenFrames, KVCache
from .notices import warn

CACHES = "pusa_kv_caches"
"""In ``transformer_options``: the :class:`KVCaches` of a sampling run, or None."""

UNSUPPORTED = ("time_dim_concat", "reference_latent", "context_latents")
"""Arguments of native Wan networks that add tokens, which would misalign the timesteps of the latent frames."""


class KVCaches:
    """One :class:`KVCache` per conditioning of a sampling run. Not a dict, as ComfyUI copies dicts in its options."""

    def __init__(self, frames: FrozenFrames) -> None:
        self._frames = frames
        self._caches: dict[Hashable, KVCache] = {}

    def of(self, conditioning: Hashable) -> KVCache:
        return self._caches.setdefault(conditioning, KVCache(self._frames))


def refuse_extra_tokens(arguments: dict[str, Any]) -> None:
    """Raise ``ValueError`` if a conditioning would add tokens to those of the video."""
    for name in UNSUPPORTED:
        if arguments.get(name) is not None:
            raise ValueError(
                f"the conditioning carries {name}, which Pusa cannot combine with one noise level per frame; "
                f"connect a plain text prompt and give pictures with VAE Encode Keyframes"
            )


def adopt(native: Any) -> Any:
    """Make ComfyUI's own Wan network ours, in place; where that is impossible, leave it as it is and say so once."""
    try:
        from .wan import convert  # importing it is where a new version may fail first

        return convert(native)
    except Exception as error:  # of whatever kind, as what a new version changes cannot be known
        warn(
            f"ComfyUI's Wan network is not one that Pusa knows ({error}), so the MODEL keeps it: the video is the "
            f"same, but steps take longer, and given_frames_refresh must be 1; update ComfyUI-Pusa"
        )
        return native
