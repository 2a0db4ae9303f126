"""Renders input images and a clip for the demo model: ``python -m demo.inputs``.

Writes ``start.png``, ``middle.png``, ``end.png`` and ``clip.mp4`` of one scene, and prints its prompt.
"""

import argparse
import logging
from pathlib import Path

import torch
from PIL import Image

from demo.clips import EXAMPLE_SCENE, FRAMES, draw_scene
from pusa_core.media.video import to_uint8, write_video

log = logging.getLogger(__name__)


def write_inputs(folder: Path, seed: int) -> str:
    """Write the files and return their prompt."""
    scene = draw_scene(seed)
    frames = torch.from_numpy(scene.render(range(FRAMES)))
    for name, frame in (("start", 0), ("middle", FRAMES // 2), ("end", FRAMES - 1)):
        Image.fromarray(to_uint8(frames[frame])).save(folder / f"{name}.png")
    write_video(frames, folder / "clip.mp4")
    return scene.caption


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(), help="output folder (default: here)")
    parser.add_argument("--seed", type=int, default=EXAMPLE_SCENE, help="seed of the scene")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    prompt = write_inputs(args.folder, args.seed)
    log.info('wrote start.png, middle.png, end.png and clip.mp4 to %s\nprompt: "%s"', args.folder.resolve(), prompt)


if __name__ == "__main__":
    main()
