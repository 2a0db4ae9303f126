"""Generates a thumbnail for every workflow: ``python -m tools.workflows.thumbnails``; needs a ComfyUI.

Runs the demo workflows. A thumbnail is the strip of nine frames of the video, in rows: those that were given have a
frame around them, the fainter the more noise they got; the others were generated. Where a part of a frame was given,
the frame is around that.
"""

import argparse
import io
import json
import re

import av
from PIL import Image, ImageDraw, ImageFont

from pusa_core import parse_noise_levels
from pusa_core.sampling.keyframes import latent_frame_of
from tools.comfy_client import ComfyClient
from tools.comfyui import find_comfyui, temporary_server

from .build import DEMO_TASKS, WORKFLOWS, demo_title, user_title
from .parts import DEMO_SIDE
from .tasks import KSAMPLER, SKYREELS, TRAIN, WAN22
from .workflow import Workflow

SIDE, GAP, BORDER = 124, 6, 7  # pixels; SIDE is that of a frame
ROW = 3
SIZE = ROW * SIDE + (ROW + 1) * GAP
BACKGROUND, GIVEN = (24, 26, 30), (255, 160, 40)


def read_video(video: bytes) -> list[Image.Image]:
    with av.open(io.BytesIO(video), "r") as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def strip(frames: list[Image.Image], levels: list[float], given: Image.Image) -> Image.Image:
    """Frames in rows, each framed by how little noise it got; ``levels``: one for each pixel frame.

    ``given``: a mask of what is given of the frames, white where it is.
    """
    count = ROW * ROW
    sheet = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    for place in range(count):
        index = round(place * (len(frames) - 1) / (count - 1))
        frame = frames[index].resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        if levels[index] < 1:
            color = tuple(round(a + (b - a) * (1 - levels[index])) for a, b in zip(BACKGROUND, GIVEN, strict=True))
            framed = frame.copy()
            ImageDraw.Draw(framed).rectangle((0, 0, SIDE - 1, SIDE - 1), outline=color, width=BORDER)
            frame.paste(framed, (0, 0), given)
        sheet.paste(frame, (GAP + place % ROW * (SIDE + GAP), GAP + place // ROW * (SIDE + GAP)))
    return sheet


def with_label(picture: Image.Image, text: str) -> Image.Image:
    """A word in the middle of a picture, on a dark band."""
    labelled = picture.copy()
    draw = ImageDraw.Draw(labelled)
    draw.rectangle((0, SIZE - 62, SIZE, SIZE), fill=BACKGROUND)
    draw.text((SIZE / 2, SIZE - 31), text, GIVEN, ImageFont.load_default(38), anchor="mm")
    return labelled


def pixel_levels(task: Workflow, frames: int) -> list[float]:
    if task.around and not task.around.joins:  # the clip, and new frames behind it
        return [0.0] * (frames - task.around.frames) + [1.0] * task.around.frames
    latents = latent_frame_of(frames - 1) + 1
    levels = parse_noise_levels(task.noise_levels, latents).tolist() if task.given else [1.0] * latents
    return [levels[latent_frame_of(index)] for index in range(frames)]


def given_part(task: Workflow) -> Image.Image:
    """What is given of the demo's frames, as a mask of the size of a frame of the strip."""
    x, y, width, height = task.demo_area
    inside, outside = (255, 0) if task.part == "margin" else (0, 255)
    mask = Image.new("L", (DEMO_SIDE, DEMO_SIDE), outside)
    mask.paste(inside, (x, y, x + width, y + height))
    return mask.resize((SIDE, SIDE), Image.Resampling.NEAREST)


def thumbnails(client: ComfyClient, task: Workflow) -> dict[str, Image.Image]:
    """Run a demo workflow; the thumbnails that its video gives, by title."""
    graph = json.loads((WORKFLOWS / "api" / f"demo_{task.name}.json").read_text(encoding="utf-8"))
    outputs = client.run(graph)

    def made(kind: str) -> bytes:
        number = next(key for key, node in graph.items() if node["class_type"] == kind)
        return client.file(outputs[number]["images"][0])

    frames = read_video(made("SaveVideo"))
    picture = strip(frames, pixel_levels(task, len(frames)), given_part(task))
    if task is TRAIN:
        loss = Image.open(io.BytesIO(made("PreviewImage"))).convert("RGB")
        picture.paste(loss.resize((SIZE, 2 * SIDE + GAP)), (0, 0))
    if task is KSAMPLER:
        picture = with_label(picture, "KSampler")
    found = {demo_title(task): picture, user_title(task): picture}
    for label, others in (("Wan2.2, 4 steps", WAN22), ("SkyReels-V3", SKYREELS[:2]), ("SkyReels-V2-DF", SKYREELS[2:])):
        like = dict(zip(("image_to_video", "extension_13"), others, strict=True))
        if task.name in like:
            found[user_title(like[task.name])] = with_label(picture, label)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.workflows.thumbnails", description=__doc__)
    parser.add_argument("--only", default="", help="regular expression of the names of tasks")
    args = parser.parse_args()
    comfyui = find_comfyui()
    if comfyui is None:
        raise SystemExit("no ComfyUI found: set COMFYUI_PATH to a checkout")
    with temporary_server(comfyui) as url:
        for task in DEMO_TASKS:
            if re.search(args.only, task.name):
                for title, picture in thumbnails(ComfyClient(url), task).items():
                    picture.save(WORKFLOWS / f"{title}.jpg", quality=85)


if __name__ == "__main__":
    main()
