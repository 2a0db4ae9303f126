"""Renders input images and a clip for the demo model: ``python -m demo.inputs``.

Writes ``start.png``, ``middle.png``, ``end.png`` and ``clip.mp4`` of one scene, ``mask.png``, white in its left half,
and prints the prompt of the scene.
"""

import argparse
import logging
import sys
from pathlib import Path

import torch
from PIL import Image

from demo.clips import EXAMPLE_SCENE, FRAMES, SIZE, draw_scene
from pusa_core.media.video import to_uint8, write_video
from pusa_core.storage.atomic import SaveError, write_whole
from pusa_core.storage.outputs import claim_outputs

log = logging.getLogger(__name__)


PICTURES = {"start.png": 0, "middle.png": FRAMES // 2, "end.png": FRAMES - 1}  # frames of the clip
CLIP = "clip.mp4"
MASK = "mask.png"


def write_inputs(folder: Path, seed: int, overwrite: bool = False) -> str:
    """Write the files and return their prompt. Raises ``FileExistsError`` if one exists."""
    with claim_outputs([folder / name for name in (*PICTURES, CLIP, MASK)], [], overwrite):
        scene = draw_scene(seed)
        frames = torch.from_numpy(scene.render(range(FRAMES)))
        for name, frame in PICTURES.items():
            write_whole(folder / name, Image.fromarray(to_uint8(frames[frame])).save)
        mask = Image.new("L", (SIZE, SIZE))
        mask.paste(255, (0, 0, SIZE // 2, SIZE))
        write_whole(folder / MASK, mask.save)
        write_video(frames, folder / CLIP)
    return scene.caption


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(), help="output folder (default: here)")
    parser.add_argument("--seed", type=int, default=EXAMPLE_SCENE, help="seed of the scene")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    args = parser.parse_args()
    try:
        prompt = write_inputs(args.folder, args.seed, args.overwrite)
    except (ValueError, OSError, SaveError) as error:
        sys.exit(f"error: {error}")
    log.info(
        'wrote start.png, middle.png, end.png, mask.png and clip.mp4 to %s\nprompt: "%s"', args.folder.resolve(), prompt
    )


if __name__ == "__main__":
    main()
