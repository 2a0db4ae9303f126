"""``python -m pusa_core decode``: latents that ``generate`` kept -> MP4 and contact sheet."""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..media.vae import STRIDE, load_vae
from ..media.video import check_encoding
from ..model.device import best_device, check_device
from ..storage.outputs import claim_outputs
from ..weights.demo_files import DEMO
from .options import options_from
from .output import FPS, VideoOutput, add_output_flags, read_latents


@dataclass(frozen=True)
class DecodeOptions:
    """``vae`` and ``fps`` are None where the file of the latents says them."""

    latents: Path
    out: Path
    overwrite: bool = False
    fps: int | None = None
    vae: str | None = None
    device: str = "cpu"


def add_decode(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("decode", help="make the video of latents that generate kept")
    add = parser.add_argument
    add("latents", type=Path, help="the file .latents.safetensors")
    add_output_flags(parser)
    add("--fps", type=int, help="frames per second (default: those of generate)")
    add("--vae", help="Wan2.1 VAE file (default: that of generate)")
    add("--device", default=best_device(), help="such as cuda, cuda:1, mps or cpu (default: the best there is)")
    parser.set_defaults(run=decode, options=partial(options_from, DecodeOptions))


def decode(options: DecodeOptions) -> None:
    """Write the video and its contact sheet; the file of the latents stays."""
    check_device(options.device)
    latents, about = read_latents(options.latents)
    vae = options.vae or str(about.get("vae") or DEMO)
    fps = about.get("fps", FPS) if options.fps is None else options.fps
    if not isinstance(fps, int):
        raise ValueError(f"{options.latents} says {fps!r} frames per second; give --fps")
    output = VideoOutput(options.out, options.overwrite, fps)
    height, width = (STRIDE * side for side in latents.shape[-2:])
    check_encoding(width, height, fps)
    inputs = [options.latents] if vae == DEMO else [options.latents, Path(vae)]
    with claim_outputs([output.out, output.sheet], inputs, options.overwrite):
        output.write_frames(load_vae(vae, device=options.device).decode(latents))
