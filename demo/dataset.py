"""Writes a training folder of captioned clips: ``python -m demo.dataset FOLDER --clips 600``."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from .clips import draw_scene, window_times

FIRST_SCENE = 10_000  # as for the base model; scenes with smaller seeds are held out


def write_dataset(
    folder: Path,
    first_scene: int,
    clips: int,
    write_clip: Callable[[np.ndarray, Path], object],
    write_whole: Callable[[Path, Callable[[Path], object]], object],
    windows: bool = False,
) -> None:
    """Write ``SEED.mp4`` and ``SEED.txt`` for consecutive scenes; existing files are kept.

    ``windows``: as windows of long videos (:func:`demo.clips.window_times`), for ``train.p_history``.
    ``write_clip(frames [T, H, W, 3], path)`` writes a video, ``write_whole`` is that of ``pusa_core.storage.atomic``.
    The caller provides them, because inside ComfyUI the import name of ``pusa_core`` depends on the pack's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first_scene, first_scene + clips):
        scene = draw_scene(seed)
        caption, clip = folder / f"{seed}.txt", folder / f"{seed}.mp4"
        if not caption.exists():
            write_whole(caption, partial(Path.write_text, data=scene.caption))
        if not clip.exists():
            write_clip(scene.render(window_times(seed).tolist()) if windows else scene.render(), clip)


def main() -> None:
    import torch

    from pusa_core.media.video import write_video
    from pusa_core.storage.atomic import SaveError, write_whole

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first-scene", type=int, default=FIRST_SCENE, help="seed of the first clip")
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--windows", action="store_true", help="windows of long videos, in which objects turn round")
    args = parser.parse_args()

    def write_clip(frames: np.ndarray, path: Path) -> None:
        write_video(torch.from_numpy(frames), path)

    try:
        write_dataset(args.folder, args.first_scene, args.clips, write_clip, write_whole, args.windows)
    except (ValueError, OSError, SaveError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
