"""The first video: ``python run.py demo``.

Renders a first frame, generates a video from it with the demo model, and writes the clip and its contact sheet to
``output/``. Uses ComfyUI if one is found, otherwise ``pusa_core`` alone.
"""

import argparse
import json
import logging
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from demo.clips import EXAMPLE_SCENE, Scene, draw_scene
from pusa_core.cli.main import main as pusa_core
from pusa_core.media.video import contact_sheet, read_frames
from pusa_core.storage.atomic import write_whole
from tools.comfy_client import ComfyClient
from tools.comfyui import find_comfyui, temporary_server

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
GRAPH = ROOT / "workflows" / "api" / "demo_image_to_video.json"


def free_path(folder: Path, name: str) -> Path:
    """The first of ``name_1.mp4``, ``name_2.mp4``, ... that does not exist."""
    numbers = (number for number in range(1, 100_000) if not (folder / f"{name}_{number}.mp4").exists())
    return folder / f"{name}_{next(numbers)}.mp4"


def generate_in_comfyui(comfyui: Path, seed: int, out: Path) -> None:
    """Start a ComfyUI server, run the image-to-video graph on it, and download the video."""
    graph = json.loads(GRAPH.read_text(encoding="utf-8"))
    for node in graph.values():
        if node["class_type"] == "PusaDemoImage":
            node["inputs"]["seed"] = seed
    with temporary_server(comfyui) as url:
        client = ComfyClient(url)
        outputs = client.run(graph)
        entry = next(e for node in outputs.values() for e in node.get("images", []) if e["filename"].endswith(".mp4"))
        video = client.file(entry)
    write_whole(out, lambda path: path.write_bytes(video), replace=False)
    write_whole(out.with_suffix(".sheet.png"), contact_sheet(read_frames(out)).save)


def generate_with_pusa_core(scene: Scene, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first.png"
        Image.fromarray((scene.render([0])[0] * 255).round().astype(np.uint8)).save(first)
        pusa_core(["generate", "--prompt", scene.caption, "--keyframe", f"0={first}", "--out", str(out)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python run.py demo", description=__doc__)
    parser.add_argument("--seed", type=int, default=EXAMPLE_SCENE, help="seed of the first frame")
    parser.add_argument("--no-comfyui", action="store_true", help="use pusa_core even if a ComfyUI is found")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    out = free_path(ROOT / "output", "demo")
    out.parent.mkdir(exist_ok=True)
    scene = draw_scene(args.seed)
    log.info('image to video: "%s"', scene.caption)
    comfyui = None if args.no_comfyui else find_comfyui()
    if comfyui is not None:
        log.info("using ComfyUI at %s", comfyui)
        generate_in_comfyui(comfyui, args.seed, out)
    else:
        log.info("using pusa_core alone")
        generate_with_pusa_core(scene, out)
    log.info("video: %s\ncontact sheet: %s", out, out.with_suffix(".sheet.png"))


if __name__ == "__main__":
    main()
