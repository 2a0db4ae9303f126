"""Writes a training folder of captioned clips: ``python -m demo.dataset FOLDER --clips 600``."""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from .clips import draw_scene

FIRST_SCENE = 10_000  # as for the base model; scenes with smaller seeds are held out


def write_dataset(folder: Path, first_scene: int, clips: int, write_clip: Callable[[np.ndarray, Path], object]) -> None:
    """Write ``SEED.mp4`` and ``SEED.txt`` for consecutive scenes; existing files are kept.

    ``write_clip(frames [T, H, W, 3], path)`` writes a video. The caller provides it, because inside ComfyUI the import
    name of ``pusa_core`` depends on the pack's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first_scene, first_scene + clips):
        scene = draw_scene(seed)
        _write_once(folder / f"{seed}.txt", partial(Path.write_text, data=scene.caption))
        _write_once(folder / f"{seed}.mp4", partial(write_clip, scene.render()))


def _write_once(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically, unless it exists."""
    if not path.exists():
        partial = path.with_suffix(".partial")
        write(partial)
        os.replace(partial, path)


def main() -> None:
    import torch

    from pusa_core.media.video import write_video

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first-scene", type=int, default=FIRST_SCENE, help="seed of the first clip")
    parser.add_argument("--clips", type=int, default=600)
    args = parser.parse_args()
    write_dataset(
        args.folder, args.first_scene, args.clips, lambda frames, path: write_video(torch.from_numpy(frames), path)
    )


if __name__ == "__main__":
    main()
