"""Makes the README's pictures: ``python -m tools.readme_pictures [tasks] [graph] [timeline]``; all by default.

``tasks``: one demo model doing six tasks, as an animated WebP. ``graph``: a screenshot of a workflow in ComfyUI, after
it was run. ``timeline``: the timeline on Frame Conditioning Mask before, while and after a run, also for its help page.
The last two need ComfyUI, Node.js with playwright-core, and Chromium.
"""

import argparse
import logging
import os
import shutil
import subprocess
import tempfile
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

PICTURES = ("tasks", "graph", "timeline")
MEDIA = PACK / "docs" / "media"
GRAPH = PACK / "workflows" / "Pusa demo - Start and end frames.json"
LOOSE = PACK / "workflows" / "Pusa demo - Start and end frames, loose.json"
TIMELINE = PACK / "web" / "docs" / "timeline.webp"  # where the page looks for pictures of help pages

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


def drive(script: str, *arguments: str | Path) -> None:
    """Run ``script`` of this folder on the page of a new ComfyUI: ``node SCRIPT URL CHROMIUM ARGUMENT...``."""
    comfyui = find_comfyui()
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if comfyui is None or browser is None:
        raise SystemExit("needs ComfyUI (set COMFYUI_PATH) and Chromium (set CHROMIUM)")
    with temporary_server(comfyui) as url:
        path = Path(__file__).with_name(script)
        subprocess.run(["node", str(path), url, browser, *map(str, arguments)], check=True)


def graph_picture(path: Path) -> None:
    """A screenshot of :data:`GRAPH` in ComfyUI after a run."""
    with tempfile.TemporaryDirectory() as folder:
        png = Path(folder) / "graph.png"
        drive("screenshot.mjs", GRAPH, png)
        save_small(Image.open(png).convert("RGB"), path)


def save_small(picture: Image.Image, path: Path) -> None:
    picture.save(path, quality=88, method=6)
    log.info("%s: %.0f kB", path, path.stat().st_size / 1e3)


STATES = {
    "before": "Before a run: what you draw is written into the text, and what you type is drawn",
    "while": "While it samples: the white line is the noise that each frame has now",
    "after": "Afterwards: the frames that were made",
}
SCENE = 776


def timeline_picture(path: Path, renderer: str) -> None:
    """The timeline in its three states, one below the other; ``renderer``: classic or nodes2."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = [folder / f"{which}.png" for which in ("start", "end")]
        for file, frame in zip(given, draw_scene(SCENE).render([0, 80]), strict=True):
            Image.fromarray((frame * 255).round().astype(np.uint8)).resize((256, 256)).save(file)
        drive("timeline.mjs", renderer, LOOSE, folder, *given)
        shown = [(title, Image.open(folder / f"{state}.png").convert("RGB")) for state, title in STATES.items()]
        width = max(picture.width for _, picture in shown)
        sheet = Image.new("RGB", (width, sum(LABEL + picture.height for _, picture in shown)), PAPER)
        top = 0
        for title, picture in shown:
            ImageDraw.Draw(sheet).text((GAP, top + 6), title, fill=INK, font=ImageFont.load_default(17))
            sheet.paste(picture, (0, top + LABEL))
            top += LABEL + picture.height
    save_small(sheet, path)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m tools.readme_pictures", description=__doc__)
    parser.add_argument("which", nargs="*", choices=PICTURES, default=list(PICTURES))
    parser.add_argument("--renderer", choices=("classic", "nodes2"), default="nodes2", help="of the timeline's page")
    arguments = parser.parse_args()
    MEDIA.mkdir(parents=True, exist_ok=True)
    if "tasks" in arguments.which:
        tasks_picture(MEDIA / "tasks.webp")
    if "graph" in arguments.which:
        graph_picture(MEDIA / "graph.webp")
    if "timeline" in arguments.which:
        timeline_picture(TIMELINE, arguments.renderer)


if __name__ == "__main__":
    main()
