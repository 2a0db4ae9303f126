"""Files of Pusa Train LoRA: its inputs, run folders and trained LoRAs."""

import filecmp
import hashlib
import re
import shutil
from functools import partial
from pathlib import Path

import folder_paths
from PIL import Image
from torch import Tensor

from ...pusa_core.media.video import read_frames, to_uint8
from ...pusa_core.storage.atomic import write_whole
from ...pusa_core.storage.outputs import check_name as check_file_name

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


def lora_path(output_name: str) -> Path:
    """Path of the LoRA, in the first of ComfyUI's LoRA folders."""
    return Path(folder_paths.get_folder_paths("loras")[0], f"{output_name}.safetensors")


def check_name(output_name: str) -> None:
    """Raise ``ValueError`` for a name that is not a plain file name, or is that of a LoRA from elsewhere."""
    if not FILE_NAME.fullmatch(output_name) or output_name.endswith(".safetensors"):
        raise ValueError(
            f'output_name is "{output_name}"; use a file name without folders and without .safetensors, made of '
            f"letters, digits, spaces and . _ + -"
        )
    try:
        check_file_name(f"{output_name}.safetensors")
    except ValueError as error:
        raise ValueError(f"output_name: {error}") from error
    file = f"{output_name}.safetensors"
    if folder_paths.get_full_path("loras", file) and not run_folder(output_name).is_dir():
        raise ValueError(f'output_name is "{output_name}", but a LoRA {file} exists already; choose another name')


def check_target(target: Path, trained: Path) -> None:
    """Raise ``ValueError`` if ``target`` exists and is not the LoRA ``trained``, as it would be overwritten."""
    if target.exists() and not (trained.exists() and filecmp.cmp(target, trained, shallow=False)):
        raise ValueError(f"{target} is there already and is not the LoRA of this run; choose another output_name")


def register(trained: Path, target: Path) -> None:
    """Copy a trained LoRA to where ComfyUI lists it; a copy that fails leaves nothing behind."""
    check_target(target, trained)
    write_whole(target, partial(shutil.copyfile, trained))


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
