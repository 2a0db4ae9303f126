"""Wan DiT checkpoints of any layout -> one state dict under the original Wan names."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from torch import Tensor

from ..model.config import WanConfig
from .files import check_finite, read_file, shard_paths
from .made_for_levels import MadeForLevels, fold_frame_rate, made_for_levels
from .quantised import FP8, QuantisedLayer, dequantise, header_entries, split_quantised
from .tensor_names import container_prefix, original_name, spelling

log = logging.getLogger(__name__)

_T2V_HINT = "load a Wan2.1 or Wan2.2-14B text-to-video checkpoint instead"
_SIZES = {(1536, 30): "1.3B", (5120, 40): "14B"}
"""The released text-to-video models by width and depth."""

_OTHERS = {
    "vace_": "a VACE model",
    "control_adapter.": "a camera-control model",
    "casual_audio_encoder.": "a speech-to-video model (S2V)",
    "audio_proj.": "a HuMo model",
    "face_adapter.": "an Animate model",
    "patch_embedding_pose.": "a SCAIL model",
    "patch_embedding_global.": "a WanDancer model",
    "img_emb.": "an image-to-video model",
}
"""Prefixes of tensor names that only another kind of Wan model has."""


ATTENTION_SETTING = ".comfy_attention.config"
"""Ends the name of a tensor with which newer versions of ComfyUI choose the attention of one layer (JSON in uint8)."""


@dataclass(frozen=True)
class Checkpoint:
    """A Wan text-to-video DiT as stored in its file, under original names.

    ``weights``: a tensor per parameter, possibly quantised. ``quantised``: the scales and format of quantised layers.
    ``settings``: tensors that choose ComfyUI's attention layer by layer. ``unused``: names of tensors that are neither.
    ``form``: naming scheme and dtype of the file, for a report. ``family``: of checkpoints that need no Pusa LoRA.
    """

    config: WanConfig
    weights: dict[str, Tensor]
    quantised: dict[str, QuantisedLayer]
    settings: dict[str, Tensor]
    unused: tuple[str, ...]
    form: str
    source: str
    family: MadeForLevels | None = None

    @property
    def name(self) -> str:
        """Its file, or the last of several, without the folder."""
        return Path(self.source).name

    def describe(self) -> str:
        """Model size, file format, and tensors that were not recognised."""
        size = _SIZES.get((self.config.dim, self.config.num_layers), "")
        shape = f"{self.config.num_layers} layers of width {self.config.dim}"
        text = f"Wan text-to-video {size + ', ' if size else ''}{shape}; {self.form}; {len(self.weights)} tensors"
        if self.family is not None:
            text += f"; {self.family.describe()}"
        return text + (f"; NOT USED: {len(self.unused)}, such as {', '.join(self.unused[:5])}" if self.unused else "")

    def dequantised(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights by name, dequantised. Raises ``ValueError`` for NaN or infinity."""
        return ((name, self.dequantised_weight(name)) for name in self.weights)

    def dequantised_weight(self, name: str) -> Tensor:
        """One of :meth:`dequantised`."""
        value = dequantise(self.weights[name], self.quantised.get(name.removesuffix(".weight")), name, self.source)
        check_finite(value, name, self.source)
        return value


def expected_shapes(config: WanConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all parameters."""
    dim, ffn = config.dim, config.ffn_dim

    def linear(name: str, rows: int, columns: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from ((f"{name}.weight", (rows, columns)), (f"{name}.bias", (rows,)))

    yield "patch_embedding.weight", (dim, config.in_dim, *config.patch_size)
    yield "patch_embedding.bias", (dim,)
    for name, columns in (("text_embedding", config.text_dim), ("time_embedding", config.freq_dim)):
        yield from linear(f"{name}.0", dim, columns)
        yield from linear(f"{name}.2", dim, dim)
    yield from linear("time_projection.1", 6 * dim, dim)
    for block in (f"blocks.{index}" for index in range(config.num_layers)):
        yield f"{block}.modulation", (1, 6, dim)
        yield from ((f"{block}.norm3.weight", (dim,)), (f"{block}.norm3.bias", (dim,)))
        yield from linear(f"{block}.ffn.0", ffn, dim)
        yield from linear(f"{block}.ffn.2", dim, ffn)
        for attention in ("self_attn", "cross_attn"):
            yield from ((f"{block}.{attention}.norm_{part}.weight", (dim,)) for part in "qk")
            for part in "qkvo":
                yield from linear(f"{block}.{attention}.{part}", dim, dim)
    frames, rows, columns = config.patch_size
    yield "head.modulation", (1, 2, dim)
    yield from linear("head.head", frames * rows * columns * config.out_dim, dim)


def original_names(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The DiT's tensors of a file under their original names; all tensors if the file has no Wan DiT.

    Raises ``ValueError`` when two tensors map to the same name.
    """
    return {ours: tensors[theirs] for ours, theirs in names_in_file(tensors, source).items()}


def names_in_file(names: Iterable[str], source: str) -> dict[str, str]:
    """Original name -> name in the file, for the DiT's tensors; the identity if the file has no Wan DiT.

    Raises ``ValueError`` when two map to the same name.
    """
    names = list(names)
    prefix = container_prefix(names)
    if prefix is None:
        return {name: name for name in names}
    renamed: dict[str, str] = {}
    for name in names:
        ours = original_name(name.removeprefix(prefix))
        if name.startswith(prefix) and ours in renamed:
            raise ValueError(
                f"{source}: {name} and another tensor are both {ours}; the file mixes two models, pick another"
            )
        if name.startswith(prefix):
            renamed[ours] = name
    return renamed


def check_text_to_video(state_dict: Mapping[str, Tensor], source: str) -> None:
    """Refuse everything but a Wan2.1 / Wan2.2-14B text-to-video DiT.

    Raises ``ValueError`` that says what ``source`` is and what to load instead.
    """
    patch = state_dict.get("patch_embedding.weight")
    if "head.modulation" not in state_dict or patch is None or patch.ndim != 5:
        raise ValueError(f"{source} is not a Wan video model (first names: {sorted(state_dict)[:3]}); {_T2V_HINT}")
    in_dim = patch.shape[1]
    kind = next((kind for mark, kind in _OTHERS.items() if any(name.startswith(mark) for name in state_dict)), None)
    if kind is None and in_dim != 16:
        known = {
            36: "an image-to-video model (36 input channels)",
            48: "the Wan2.2-5B model (48 latent channels), which Pusa was not made for",
        }
        kind = known.get(in_dim, f"a Wan model of another kind ({in_dim} input channels)")
    if kind is not None:
        raise ValueError(f"{source} is {kind}; Pusa turns text-to-video models into all the others: {_T2V_HINT}")


def parse_checkpoint(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], source: str) -> Checkpoint:
    """Normalise the tensors of a file, whatever its naming scheme, and log what was found; ``source`` names the file.

    Raises:
        ValueError: not a text-to-video Wan model, or an incomplete one; the message says which.
    """
    named = original_names(tensors, source)
    check_text_to_video(named, source)
    prefix = container_prefix(tensors) or ""
    header = {original_name(name.removeprefix(prefix)): e for name, e in header_entries(metadata, source).items()}
    weights, quantised, marks = split_quantised(named, header, source)
    family = made_for_levels(source, weights)
    weights = fold_frame_rate(weights, quantised, source)
    config = _config(weights, source)
    expected = dict(expected_shapes(config))
    if missing := [name for name in expected if name not in weights]:
        raise ValueError(f"{source} lacks {len(missing)} tensors, such as {missing[:3]}; {_T2V_HINT}")
    for name, shape in expected.items():
        packed = not weights[name].is_floating_point() and name.removesuffix(".weight") in quantised
        if not packed and (weights[name].shape != shape or not weights[name].is_floating_point()):
            raise ValueError(
                f"{source}: {name} is {tuple(weights[name].shape)} of {weights[name].dtype}, where a model of width "
                f"{config.dim} has {shape} of floating point; download or copy the file again"
            )
    form = f"{spelling(tensors)}, {_number_format(weights, quantised, marks)}"
    kept = {name: weights[name] for name in expected}
    settings = {name: tensor for name, tensor in weights.items() if name.endswith(ATTENTION_SETTING)}
    unused = tuple(name for name in weights if name not in expected and name not in settings)
    checkpoint = Checkpoint(config, kept, quantised, settings, unused, form, source, family)
    log.log(logging.WARNING if unused else logging.INFO, "%s: %s", Path(source).name, checkpoint.describe())
    return checkpoint


def _config(weights: Mapping[str, Tensor], source: str) -> WanConfig:
    try:
        return WanConfig.from_state_dict(weights)
    except (KeyError, IndexError, ZeroDivisionError, ValueError) as error:
        raise ValueError(f"{source} is not a whole Wan video model ({error!r}); {_T2V_HINT}") from error


def _number_format(weights: Mapping[str, Tensor], quantised: Mapping[str, QuantisedLayer], marks: str) -> str:
    """The dtype of most of the weights, or the quantisation format and how the file marks it."""
    sizes: Counter[str] = Counter()
    for weight in weights.values():
        sizes[str(weight.dtype).removeprefix("torch.")] += weight.nbytes
    dtype = sizes.most_common(1)[0][0]
    if not quantised:
        return f"{dtype} without scales" if dtype in FP8.values() else dtype
    kinds = ", ".join(sorted({layer.format for layer in quantised.values()}))
    return f"{len(quantised)} layers in {kinds} with scales ({marks})"


def load_checkpoint(path: str | PathLike | Iterable[str | PathLike]) -> dict[str, Tensor]:
    """Load a Wan text-to-video DiT as tensors with the original Wan2.1 names, whatever names its file uses.

    Reads original and diffusers names behind any known prefix, in fp32, fp16, bf16 and fp8 with or without scales.
    fp8 comes back dequantised to bf16; everything else stays memory-mapped in the file's dtype.

    Args:
        path: a file, the ``.index.json`` of a sharded checkpoint, one of its numbered shards, or a list of files.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is damaged, two shards name the same tensor, or it is not a text-to-video Wan model.
    """
    return dict(read_checkpoint(path).dequantised())


def read_checkpoint(path: str | PathLike | Iterable[str | PathLike]) -> Checkpoint:
    """Like :func:`load_checkpoint`, but not dequantised; only names and shapes are read."""
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    paths = shard_paths(path)
    for shard in paths:
        part, header = read_file(shard)
        if twice := tensors.keys() & part.keys():
            raise ValueError(f"{shard} names tensors of an earlier shard again, such as {min(twice)}")
        tensors |= part
        metadata |= header
    return parse_checkpoint(tensors, metadata, ", ".join(map(str, paths)))
