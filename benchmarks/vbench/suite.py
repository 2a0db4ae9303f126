"""VBench's image-to-video suite: prompt list and images from a VBench checkout.

The ``vbench`` package finds the videos of a prompt by name, ``<prompt>-<index>.mp4`` with index 0 to 4
(``VBench.build_full_info_json``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pusa_core.media.video import frame_size
from pusa_core.storage.json_text import parse_json

SAMPLES = 5  # videos per prompt that the package looks for
RATIO_TOLERANCE = 0.03  # of aspect ratios; 7:4, the suite's crop nearest to 832 x 480, is 1 % off


@dataclass(frozen=True)
class Entry:
    """A prompt of the suite, its image, and its index in the list."""

    index: int
    prompt: str
    image: str
    dimensions: tuple[str, ...]


@dataclass(frozen=True)
class Video:
    """A video to generate: one sample of an entry."""

    entry: Entry
    sample: int
    first_seed: int

    @property
    def seed(self) -> int:
        """Unique per video, and independent of sharding and the number of samples."""
        return self.first_seed + SAMPLES * self.entry.index + self.sample

    @property
    def name(self) -> str:
        return f"{self.entry.prompt}-{self.sample}.mp4"


def read_list(path: Path) -> list[Entry]:
    """The entries of a ``vbench2_i2v_full_info.json``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, a duplicate prompt, or one that is not a valid file name.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        entries = [
            Entry(index, str(item["prompt_en"]), str(item["image_name"]), tuple(item["dimension"]))
            for index, item in enumerate(content)
        ]
        if not entries:
            raise ValueError("it is empty")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not VBench's list of the image-to-video suite ({error!r}): each entry needs prompt_en, "
            f"image_name and dimension; use vbench2_beta_i2v/vbench2_i2v_full_info.json of a present VBench checkout"
        ) from error
    seen: set[str] = set()
    for entry in entries:
        if entry.prompt in seen:
            raise ValueError(f'{path} has the prompt "{entry.prompt}" twice; their videos would have one name')
        seen.add(entry.prompt)
        for name in (f"{entry.prompt}-0.mp4", entry.image):
            if not name.strip() or "/" in name or "\0" in name or len(name.encode()) > 255:
                raise ValueError(f'{path}: "{name}" cannot be the name of a file; download the list again')
    return entries


def choose(entries: list[Entry], dimensions: Sequence[str] | None) -> list[Entry]:
    """Select the entries with the given dimensions. Raises ``ValueError`` for an unknown dimension."""
    known = sorted({dimension for entry in entries for dimension in entry.dimensions})
    for dimension in dimensions or ():
        if dimension not in known:
            raise ValueError(f'no prompt has the dimension "{dimension}"; choose of {", ".join(known)}')
    return [entry for entry in entries if dimensions is None or set(dimensions) & set(entry.dimensions)]


def check_images(entries: list[Entry], folder: Path, width: int, height: int) -> None:
    """Raise if an image is missing, damaged, or has a different aspect ratio than the video."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    missing = sorted({entry.image for entry in entries if not (folder / entry.image).is_file()})
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} pictures, such as {missing[0]}; get them with VBench's "
            f"vbench2_beta_i2v/download_data.sh"
        )
    for name in sorted({entry.image for entry in entries}):
        shown_width, shown_height = frame_size(folder / name)
        ratio = shown_width / shown_height
        if abs(ratio * height / width - 1) > RATIO_TOLERANCE:
            raise ValueError(
                f"{folder / name} is {ratio:.3f} times as wide as high, the video {width / height:.3f}; the evaluation "
                f"compares with the picture, so give the crops nearest to {width}x{height} (for 832x480: 7-4)"
            )
