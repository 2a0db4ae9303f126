"""Names and hashes of files."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from ..storage.outputs import RESERVED

HIGH, LOW = "high_noise", "low_noise"  # Wan2.2's experts
LONGEST = 200  # bytes of a file name; most systems take 255, and endings are added


def exists(path: Path, look: Callable[[Path], bool] = Path.exists) -> bool:
    """Whether a path is there; one that no file can have, such as one too long, is not.

    ``look``: or ``Path.is_file`` or ``Path.is_dir``.
    """
    try:
        return look(path)
    except (OSError, ValueError):
        return False


def check_file_name(name: str) -> None:
    """Raise ``ValueError``, without the option's name, for a name that is no file name on every system."""
    quoted = f'is "{name[:80]}"'
    if name in ("", ".", "..") or any(letter in '/\\:*?"<>|' or letter < " " for letter in name):
        raise ValueError(f'{quoted}; use a file name without folders and without : * ? " < > |')
    if RESERVED.fullmatch(name) or name[-1] in " .":
        raise ValueError(f"{quoted}, which is no file name on Windows; use another, such as pusa_lora")
    if len(name.encode(errors="surrogatepass")) > LONGEST:
        raise ValueError(f"{quoted}..., which is too long; use at most {LONGEST} bytes")


def lora_files(folder: Path, name: str, experts: bool) -> dict[str, Path]:
    """The LoRAs of a run, by what its final event calls them; ``experts``: whether it trains both of Wan2.2's."""
    if not experts:
        return {"lora": folder / f"{name}.safetensors"}
    return {"lora": folder / f"{name}_{HIGH}.safetensors", "lora_low_noise": folder / f"{name}_{LOW}.safetensors"}


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
