"""Short runs of ``python -m pusa_core extend``, and what the folder of their scenes holds."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from demo.clips import draw_scene
from pusa_core.cli.main import main
from pusa_core.media.video import write_video

SIZE = 32
QUICK = ["--steps", "1", "--cfg", "1", "--frames", "17", "--size", f"{SIZE}x{SIZE}"]  # a hop is 8 frames
PROMPT = ["--prompt", "a small red square moves slowly left"]


def demo_clip(path: Path) -> Path:
    """Two seconds of the demo's world, and a bit."""
    write_video(torch.from_numpy(draw_scene(3).render(range(35))), path)
    return path


def extend(folder, *arguments, out="out.mp4", seconds=4):
    timed = [] if seconds is None else ["--seconds", str(seconds)]
    main(["extend", *QUICK, *timed, *map(str, arguments), "--out", str(folder / out), "--overwrite"])


def refused(*arguments):
    with pytest.raises(SystemExit) as caught:
        main(["extend", *map(str, arguments)])
    assert isinstance(caught.value.code, str) and caught.value.code.startswith("error: ")
    assert "\n" not in caught.value.code
    return caught.value.code


def index_of(folder):
    return json.loads((folder / "scenes.json").read_text())


def latents_of(folder):
    """The latents of every scene that the index lists, by number."""
    files = {each["number"]: folder / each["latents"] for each in index_of(folder)["scenes"]}
    return {number: load_file(file)["latents"].clone() for number, file in files.items()}  # not mapped


def made_anew(before, after):
    """The numbers of the scenes that differ."""
    return [number for number in after if number not in before or not torch.equal(before[number], after[number])]
