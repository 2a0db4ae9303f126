"""Files of Pusa Train LoRA: its inputs, run folders and trained LoRAs."""

import filecmp
import hashlib
import re
import shutil
from pathlib import Path

import folder_paths
from PIL import Image
from torch import Tensor

from ...pusa_core.media.video import read_frames, to_uint8
from ...pusa_core.storage.atomic import write_whole
from ...pusa_core.training.files import check_file_name, lora_files
from ...pusa_core.training.ownership import file_mark, open_run

RUNS = "pusa_training"  # in ComfyUI's output folder; has one sub-folder per run, named after its LoRA
FILE_NAME = re.compile(r"\w[\w .+-]*(?<![ .])")


def dataset_folder(dataset: str) -> Path:
    """Resolve the input ``dataset``: a path, absolute or relative to ComfyUI's input folder."""
    if not dataset.strip():
        raise ValueError(
            "dataset is empty; name a folder with videos and captions, in ComfyUI's input folder or by its path"
        )
    folder = Path(folder_paths.get_input_directory(), dataset.strip())  # an absolute path overrides the first
    if not folder.is_dir():
        raise ValueError(
            f'dataset is "{dataset}", but there is no folder {folder}; name one in ComfyUI\'s input folder, or its '
            f"whole path"
        )
    return folder


def fingerprint(folder: Path) -> str:
    """A hash of the folder's file names, sizes and times, except hidden ones such as the cache."""
    names = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    shown = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    states = [(str(name), (folder / name).stat()) for name in shown]
    return hashlib.sha256(repr([(name, s.st_size, s.st_mtime_ns) for name, s in states]).encode()).hexdigest()


def run_folder(output_name: str) -> Path:
    return Path(folder_paths.get_output_directory(), RUNS, output_name)


def lora_paths(output_name: str, experts: bool) -> dict[str, Path]:
    """Where a run's LoRAs go, in the first of ComfyUI's LoRA folders, by their names in the run's last event."""
    return lora_files(Path(folder_paths.get_folder_paths("loras")[0]), output_name, experts)


def name_problem(output_name: str) -> str:
    """What is wrong with a name that is no plain file name, or is that of a LoRA from elsewhere; empty if nothing."""
    if not FILE_NAME.fullmatch(output_name) or output_name.endswith(".safetensors"):
        return (
            f'"{output_name[:80]}" is no plain file name; use one without folders and without .safetensors, made of '
            f"letters, digits, spaces and . _ + -"
        )
    try:
        check_file_name(output_name)
    except ValueError as error:
        return str(error)
    file = f"{output_name}.safetensors"
    if folder_paths.get_full_path("loras", file) and not run_folder(output_name).is_dir():
        return f"a LoRA {file} exists already; choose another name"
    return ""


State = tuple[int, int]  # size and time of a file


def check_target(target: Path, run: Path) -> State | None:
    """Raise ``ValueError`` when ``target`` is there and the run did not make it: it would be lost.

    Returns its state, or None where there is none.
    """
    if not target.exists():
        return None
    trained = run / target.name
    if file_mark(target) != open_run(run).id and not (trained.exists() and filecmp.cmp(target, trained, shallow=False)):
        raise ValueError(f"{target} is there already and is not the LoRA of this run; choose another output_name")
    return _state(target)


def register(trained: Path, target: Path, before: State | None) -> None:
    """Copy a trained LoRA to where ComfyUI lists it; a copy that fails leaves nothing behind.

    ``before``: of the file that it replaces, as :func:`check_target` gave it.
    """
    if target.exists() and _state(target) != before and file_mark(target) != file_mark(trained):
        raise ValueError(f"{target} was made during the training, by something else; the LoRA of this run is {trained}")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, lambda partial: shutil.copyfile(trained, partial))


def _state(path: Path) -> State:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def load_picture(path: str) -> Tensor:
    """IMAGE ``[1, H, W, 3]``."""
    return read_frames(path, first=1)


def save_sample_image(image: Tensor) -> str:
    """Save the first image of an IMAGE under a name derived from its content; returns the path."""
    pixels = to_uint8(image[0, ..., :3].cpu())
    name = f"pusa_sample_{hashlib.sha256(pixels.tobytes()).hexdigest()[:16]}.png"
    path = Path(folder_paths.get_temp_directory(), name)
    write_whole(path, Image.fromarray(pixels).save)
    return str(path)


def model_file(kind: str, name: str, given: str) -> str:
    """The path of a model file. Raises ``ValueError``, naming the input ``given``, if it does not exist."""
    path = folder_paths.get_full_path(kind, name)
    if path is None:
        raise ValueError(f'{given} is "{name}", which is not in models/{kind}; put it there, or pick another')
    return path
