"""Generates a thumbnail for every workflow: ``python -m tools.workflows.thumbnails``; needs a ComfyUI.

Runs the demo workflows and makes each thumbnail from four frames of the video; the workflow with the real model gets
the same thumbnail.
"""

import io
import json

import av
from PIL import Image

from tools.comfy_client import ComfyClient
from tools.comfyui import find_comfyui, temporary_server

from .build import WORKFLOWS
from .tasks import TASKS, WAN22
from .training import TRAIN

SIDE, GAP = 190, 4  # pixels; SIDE is that of a frame


def thumbnail(video: bytes) -> Image.Image:
    """Four frames from first to last in a 2 x 2 grid."""
    with av.open(io.BytesIO(video), "r") as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    sheet = Image.new("RGB", (2 * SIDE + GAP, 2 * SIDE + GAP), "white")
    for index in range(4):
        frame = frames[round(index * (len(frames) - 1) / 3)].resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        sheet.paste(frame, (index % 2 * (SIDE + GAP), index // 2 * (SIDE + GAP)))
    return sheet


def main() -> None:
    comfyui = find_comfyui()
    if comfyui is None:
        raise SystemExit("no ComfyUI found: set COMFYUI_PATH to a checkout")
    with temporary_server(comfyui) as url:
        client = ComfyClient(url)
        for task in (*TASKS, TRAIN):
            graph = json.loads((WORKFLOWS / "api" / f"demo_{task.name}.json").read_text())
            save = next(key for key, node in graph.items() if node["class_type"] == "SaveVideo")
            image = thumbnail(client.file(client.run(graph)[save]["images"][0]))
            names = [task.name, f"demo_{task.name}"] + [WAN22.name] * (task.name == "image_to_video")
            for name in names:
                image.save(WORKFLOWS / f"{name}.jpg", quality=85)


if __name__ == "__main__":
    main()
