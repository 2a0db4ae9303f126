"""Makes the README's pictures: ``python -m tools.readme_pictures [tasks] [graph]``; both by default.

``tasks``: one demo model doing six tasks, as an animated WebP. ``graph``: a screenshot of a workflow in ComfyUI, after
it was run; needs ComfyUI, Node.js with playwright-core, and Chromium.
"""

import argparse
import logging
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from demo.clips import draw_scene
from pusa_core import Keyframe, Settings, encode_keyframes, generate_latents, load_model, load_text_encoder, load_vae
from pusa_core.media.video import to_uint8
from pusa_core.sampling.keyframes import pixel_frames_of
from pusa_core.sampling.tasks import TASKS, Place
from pusa_core.weights.demo_files import LORA_STRENGTH
from tools.comfyui import PACK, find_comfyui, temporary_server

log = logging.getLogger(__name__)

MEDIA = PACK / "docs" / "media"
GRAPH = PACK / "workflows" / "demo_start_end.json"

SHOWN = {
    "text_to_video": ("Text to video", 776),
    "image_to_video": ("Image to video", 776),
    "start_end": ("Start and end frames", 41),
    "completion": ("Between two clips", 12),
    "extension_41": ("Continue a clip", 7),
    "video_to_video": ("Video to video", 5),
}
"""Title of each task, and the scene whose frames and prompt it gets."""

FRAMES, EVERY, MILLISECONDS = 81, 2, 110  # shown: every second frame
CELL, GAP, LABEL, BAR, COLUMNS = 208, 16, 30, 14, 3  # pixels
INK, PAPER, GIVEN, MADE = "#e6e9ef", "#14171d", (255, 150, 40), (58, 66, 80)


def frames_of(place: Place, clip: Tensor) -> Tensor:
    """The part of ``clip [T, H, W, 3]`` that a task is given at ``place``."""
    if place.position < 0:
        return clip[-place.length :]
    first = pixel_frames_of(place.position)[0]
    return clip[first : first + place.length]


def generate(task: str, scene_seed: int) -> tuple[Tensor, Tensor]:
    """The video ``[T, H, W, 3]`` of a task and the noise levels ``[F]`` of its latent frames."""
    settings = Settings(width=64, height=64, frames=FRAMES, steps=10, cfg=3.0, seed=0)
    scene = draw_scene(scene_seed)
    clip, vae = torch.from_numpy(scene.render()), load_vae("demo")
    keyframes = [Keyframe(frames_of(place, clip), place.position) for place in TASKS[task].places]
    given = encode_keyframes(vae, keyframes, settings, TASKS[task].noise_levels)
    encode = load_text_encoder("demo")
    model = load_model("demo", loras=[("demo", LORA_STRENGTH)])
    latents = generate_latents(model, given, encode(scene.caption), encode(""), settings)
    return vae.decode(latents), given.noise_levels


def draw_panel(
    sheet: Image.Image, corner: tuple[int, int], title: str, video: np.ndarray, levels: list, t: int
) -> None:
    """A task at pixel frame ``t``: title, frame, and a bar with the noise level of every latent frame."""
    draw, (x, y) = ImageDraw.Draw(sheet), corner
    latent = -(-t // 4)
    frame = Image.fromarray(video[t]).resize((CELL, CELL), Image.Resampling.BICUBIC)
    draw.text((x, y), title, fill=INK, font=ImageFont.load_default(17))
    if levels[latent] < 1:
        draw.rectangle((x - 4, y + LABEL - 4, x + CELL + 3, y + LABEL + CELL + 3), fill=GIVEN)
    sheet.paste(frame, (x, y + LABEL))
    top, width = y + LABEL + CELL + 8, CELL / len(levels)
    for index, level in enumerate(levels):
        color = tuple(round(a + (b - a) * level) for a, b in zip(GIVEN, MADE, strict=True))
        draw.rectangle((x + index * width, top, x + (index + 1) * width - 2, top + BAR - 1), fill=color)
    at = x + (latent + 0.5) * width
    draw.polygon([(at - 5, top + BAR + 7), (at + 4, top + BAR + 7), (at - 0.5, top + BAR + 1)], fill=INK)


def tasks_picture(path: Path) -> None:
    """Six tasks, side by side. Given frames have an orange border."""
    videos = []
    for task, (title, seed) in SHOWN.items():
        log.info("%s", title)
        video, levels = generate(task, seed)
        videos.append((title, to_uint8(video), levels.tolist()))
    rows = -(-len(videos) // COLUMNS)
    width, height = CELL + GAP, CELL + LABEL + BAR + 26
    sheets = []
    for t in range(0, FRAMES, EVERY):
        sheet = Image.new("RGB", (COLUMNS * width + GAP, rows * height + GAP), PAPER)
        for index, (title, frames, bar) in enumerate(videos):
            corner = GAP + index % COLUMNS * width, GAP + index // COLUMNS * height
            draw_panel(sheet, corner, title, frames, bar, t)
        sheets.append(sheet)
    durations = [MILLISECONDS] * (len(sheets) - 1) + [900]
    sheets[0].save(path, save_all=True, append_images=sheets[1:], duration=durations, loop=0, quality=80, method=6)
    log.info("%s: %.2f MB", path, path.stat().st_size / 1e6)


def graph_picture(path: Path) -> None:
    """A screenshot of :data:`GRAPH` in ComfyUI after a run."""
    comfyui = find_comfyui()
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if comfyui is None or browser is None:
        raise SystemExit("needs ComfyUI (set COMFYUI_PATH) and Chromium (set CHROMIUM)")
    script = Path(__file__).with_name("screenshot.mjs")
    with temporary_server(comfyui) as url:
        subprocess.run(["node", str(script), url, browser, str(GRAPH), str(path)], check=True)
    log.info("%s", path)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m tools.readme_pictures", description=__doc__)
    parser.add_argument("which", nargs="*", choices=("tasks", "graph"), default=["tasks", "graph"])
    which = parser.parse_args().which
    MEDIA.mkdir(parents=True, exist_ok=True)
    if "tasks" in which:
        tasks_picture(MEDIA / "tasks.webp")
    if "graph" in which:
        graph_picture(MEDIA / "graph.png")


if __name__ == "__main__":
    main()
