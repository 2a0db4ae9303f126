"""Weight files, read as untrusted input: no code is executed, and nothing larger than the file is allocated."""

import logging
import pickletools
import re
import zipfile
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ..storage.json_text import parse_json

log = logging.getLogger(__name__)

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
INDEX = ".index.json"
_MAX_HEADER = 1 << 24  # bytes; the 14B model's header has 130,000
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)", re.DOTALL)
# globals that the pickle of a state dict may reference, besides dtypes and storages
_GLOBALS = {
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "torch.storage UntypedStorage",
    "torch.storage TypedStorage",
    "torch.nn.parameter Parameter",
    "torch Size",
    "torch device",
    "collections OrderedDict",
}


def is_pickled(path: Path) -> bool:
    """Whether it is a file of ``torch.save``, by its suffix."""
    return path.suffix.lower() in PICKLED


def read_tensors(path: str | PathLike) -> dict[str, Tensor]:
    """All tensors of a ``.safetensors`` file or of a ``.pt`` / ``.pth`` file, both memory-mapped.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or one of another kind; the message names it.
    """
    return read_file(path)[0]


def read_file(path: str | PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, as :func:`read_tensors`, and its text metadata."""
    path = Path(path)
    check_file(path)
    try:
        if is_pickled(path):
            return _named_tensors(torch.load(path, map_location="cpu", weights_only=True, mmap=True), path), {}
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except Exception as error:  # third-party parsers raise anything; all of it means a damaged file
        raise _unreadable(path, error) from error


def read_tensor(path: str | PathLike, name: str) -> Tensor:
    """One tensor of a file that :func:`read_file` accepted, mapped on its own, so that its pages are freed with it."""
    if is_pickled(Path(path)):
        return _named_tensors(torch.load(path, map_location="cpu", weights_only=True, mmap=True), Path(path))[name]
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)


def check_file(path: str | PathLike) -> None:
    """Reject a file before parsing it: not a regular file, an oversized header, a zip bomb, pickled code."""
    path = Path(path)
    if not path.is_file():
        kind = "is a folder or a device, not a file" if path.exists() else None
        if kind is None:
            raise FileNotFoundError(f"no such file: {path}")
        raise ValueError(f"{path} {kind}; pick a .safetensors or .pt file")
    _check_gguf(path)
    try:
        if is_pickled(path):
            _check_pickled(path)
        else:
            with path.open("rb") as file:
                header = int.from_bytes(file.read(8), "little")
            if not 2 <= header <= min(_MAX_HEADER, path.stat().st_size - 8):
                raise ValueError(f"its header should be {header} bytes long")
    except Exception as error:  # as above: zipfile alone raises half a dozen types
        raise _unreadable(path, error) from error


def _check_gguf(path: Path) -> None:
    """Reject a GGUF file, whatever its suffix."""
    with path.open("rb") as file:
        if file.read(4) == b"GGUF":
            raise ValueError(
                f"{path} is a GGUF file; in ComfyUI load it with Unet Loader (GGUF) of the pack ComfyUI-GGUF and "
                f"connect its MODEL to Pusa Sampler or Pusa Patch Model; elsewhere pick a .safetensors file"
            )


def _check_pickled(path: Path) -> None:
    """Raise ``ValueError`` unless the file is an uncompressed archive of plain tensors."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it holds compressed data, which torch.save never writes")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("it claims to hold more than its own size")
        pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
        if len(pickles) != 1 or pickles[0].file_size > _MAX_HEADER:
            raise ValueError("it holds no list of tensors, or an absurdly long one")
        program = archive.read(pickles[0])
    for operation, argument, _ in pickletools.genops(program):
        if operation.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            raise ValueError(f"it holds a {operation.name} instruction, which torch.save never writes")
        if operation.name == "GLOBAL" and not _harmless(str(argument)):
            raise ValueError(f"it would call {str(argument).replace(' ', '.')}; it holds code, not only tensors")


def _harmless(name: str) -> bool:
    module, _, attribute = name.partition(" ")
    kind = getattr(torch, attribute, None) if module == "torch" else None
    return name in _GLOBALS or isinstance(kind, torch.dtype) or (module == "torch" and attribute.endswith("Storage"))


def _named_tensors(content: object, path: Path) -> dict[str, Tensor]:
    """The tensors of a pickled file, unwrapped from a nested ``state_dict`` if there is one."""
    if isinstance(content, dict) and (len(content) == 1 or "state_dict" in content):
        inner = content.get("state_dict", next(iter(content.values())))
        content = inner if isinstance(inner, dict) else content
    if not isinstance(content, dict) or not all(_is_plain(name, value) for name, value in content.items()):
        raise ValueError("it holds something other than named tensors")
    if sum(value.nbytes for value in content.values()) > path.stat().st_size:
        raise ValueError("its tensors are larger than the file")
    return dict(content)


def _is_plain(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, Tensor):
        return False
    return value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} cannot be read as a weight file ({error}); download or copy it again")


def check_finite(tensor: Tensor, name: str, source: str) -> None:
    """Raise ``ValueError`` for NaN, infinity or a non-float dtype, in one pass and without a copy."""
    if not tensor.is_floating_point():
        raise ValueError(f"{source}: {name} has dtype {tensor.dtype}, not a floating-point one; the file is damaged")
    if tensor.itemsize == 1:
        tensor = tensor.to(torch.bfloat16)  # fp8 has no arithmetic; the conversion is exact
    if tensor.numel() and not all(bound.isfinite() for bound in tensor.aminmax()):
        raise ValueError(f"{source}: {name} contains NaN or infinite values; download or copy the file again")


def shard_paths(path: str | PathLike | Iterable[str | PathLike]) -> list[Path]:
    """The files of a checkpoint, given as a file, a list of files, a shard index, or any one of numbered shards.

    Raises:
        FileNotFoundError: the index or a numbered shard does not exist.
        ValueError: a malformed index, or one that names a file outside its folder.
    """
    if not isinstance(path, str | PathLike):
        paths = [Path(shard) for shard in path]
        if not paths:
            raise ValueError("no checkpoint file given")
        return paths
    path = Path(path)
    if path.name.endswith(INDEX):
        return list(_indexed(path))
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match["count"])
    if not 1 <= int(match["number"]) <= count <= 1000:
        raise ValueError(f"{path} is numbered {match['number']} of {match['count']}; download the checkpoint again")
    shards = [
        path.with_name(f"{match['stem']}-{number:05}-of-{match['count']}{match['suffix']}")
        for number in range(1, count + 1)
    ]
    for shard in shards:
        if not shard.exists():
            raise FileNotFoundError(f"no such file: {shard}; {path.name} is one of {count} files that belong together")
    return shards


def _indexed(index: Path) -> Iterator[Path]:
    if not index.is_file():
        raise FileNotFoundError(f"no such file: {index}")
    try:
        if index.stat().st_size > _MAX_HEADER:
            raise ValueError("it is absurdly long")
        names = set(parse_json(index.read_bytes())["weight_map"].values())
        if not names or not all(isinstance(name, str) and name.endswith((".safetensors", *PICKLED)) for name in names):
            raise ValueError("it names other things than weight files")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} cannot be read as an index of shards ({error!r}); download it again") from error
    # a hub cache symlinks index and shards into one other folder; links to anywhere else are rejected
    folders = {index.parent.resolve(), index.resolve().parent}
    for name in sorted(names):
        shard = index.parent / name
        if shard.resolve().parent not in folders:
            raise ValueError(f"{index} names {name!r}, which lies outside of its folder; download the checkpoint again")
        if not shard.exists():
            raise FileNotFoundError(f"no such file: {shard}; {index} names it")
        yield shard
