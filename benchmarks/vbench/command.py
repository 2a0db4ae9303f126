"""``python -m benchmarks.vbench``: the videos of VBench's image-to-video suite, in the layout that is evaluated.

The ``vbench`` package takes the suffix of all videos from whichever file their folder lists first. Hence the folder
``videos`` holds nothing else; settings and seeds lie beside it.
"""

import argparse
import csv
import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from pusa_core.cli.generate import add_sampling_arguments, model_size
from pusa_core.cli.model_files import (
    DEMO_CHECKPOINT,
    add_model_arguments,
    build_models,
    check_model_arguments,
    load_text_encoder,
    load_vae,
    read_models,
)
from pusa_core.media.video import read_frames, resize_cover, write_video
from pusa_core.model.parallel import process_count
from pusa_core.sampling.keyframes import latent_length
from pusa_core.sampling.pipeline import Keyframe, Settings, encode_keyframes, generate_latents
from pusa_core.sampling.schedule import parse_noise_levels

from .suite import SAMPLES, Entry, Video, check_images, choose, read_list

log = logging.getLogger(__name__)

FPS = 16  # of Wan; the package's measure of motion reads it from the file
_SHARD = re.compile(r"(\d+)/(\d+)")


def shard_argument(text: str) -> tuple[int, int]:
    match = _SHARD.fullmatch(text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f'"{text}" is not I/N with I from 1 to N, such as 2/8')
    return int(match[1]), int(match[2])


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.vbench",
        description="Make the videos of VBench's image-to-video suite.",
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("--list", type=Path, required=True, help="vbench2_i2v_full_info.json of a VBench checkout")
    add("--images", type=Path, required=True, help="the suite's pictures in the video's ratio, such as data/crop/7-4")
    add("--out", type=Path, required=True, help="folder; the videos go into videos/, and nothing else does")
    add("--samples", type=int, default=SAMPLES, help=f"videos for each prompt, at most {SAMPLES} (default {SAMPLES})")
    add("--dimensions", nargs="+", help="only prompts of these dimensions (default: all)")
    add("--shard", type=shard_argument, default=(1, 1), metavar="I/N", help="the Ith of N parts of the prompts")
    add("--seed", type=int, default=0, help="of the first video (default 0); the others follow")
    add("--negative", default="", help="what to avoid (used when cfg is not 1)")
    add("--noise-levels", default="0:0", help='of the given frame (default "0:0": it stays as it is)')
    add_sampling_arguments(parser)
    add_model_arguments(parser)
    return parser


def run_settings(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """What makes two runs the same, in JSON's types."""
    files = [args.checkpoint or DEMO_CHECKPOINT, args.checkpoint_low]
    loras = [[path.name, strength] for path, strength in [*(args.lora or []), *(args.lora_low or [])]]
    return {
        "list": hashlib.sha256(args.list.read_bytes()).hexdigest(),
        "checkpoints": [path.name for path in files if path is not None],
        "loras": loras if args.checkpoint or loras else "the demo model's",
        "size": [settings.width, settings.height],
        "frames": settings.frames,
        "steps": settings.steps,
        "cfg": settings.cfg,
        "shift": settings.shift,
        "negative": args.negative,
        "noise_levels": args.noise_levels,
        "first_seed": args.seed,
        "dtype": args.dtype or "default",
    }


def open_folder(out: Path, wanted: dict[str, Any], entries: list[Entry], first_seed: int) -> Path:
    """The folder for the videos, new or of an earlier run with the same settings; settings and seeds beside it.

    Raises ``ValueError`` for a folder of a run with other settings, or one that holds files of another kind.
    """
    videos = out / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    every = [Video(entry, sample, first_seed) for entry in entries for sample in range(SAMPLES)]
    strangers = sorted(set(os.listdir(videos)) - {video.name for video in every})
    if strangers:
        raise ValueError(
            f"{videos} holds {strangers[0]}, which is no video of the list; the evaluation would stumble over it: "
            f"move it away, or give another --out"
        )
    try:
        with (out / "run.json").open("x", encoding="utf-8") as file:
            json.dump(wanted, file, indent=1)
    except FileExistsError:
        found = json.loads((out / "run.json").read_text(encoding="utf-8"))
        for key, value in wanted.items():
            if found.get(key) != value:
                raise ValueError(
                    f"{out} was begun with {key} {found.get(key)}, not {value}; go on with the same, or give another "
                    f"--out"
                ) from None
    with (out / "seeds.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "image", "seed"])
        writer.writerows([video.name, video.entry.image, video.seed] for video in every)
    return videos


class Contexts:
    """Text embeddings, without their padding: those of the whole suite fit into memory."""

    def __init__(self, args: argparse.Namespace, prompts: list[str]) -> None:
        encode = load_text_encoder(args)
        self._stored: dict[str, tuple[Tensor, int]] = {}
        for prompt in tqdm(prompts, desc="prompts", unit="prompt"):
            context = encode(prompt)[0].cpu()
            used = int(context.any(-1).nonzero().max()) + 1 if context.any() else 0
            self._stored[prompt] = context[:used].clone(), len(context)

    def __getitem__(self, prompt: str) -> Tensor:
        """Context ``[1, L, text_dim]``, zero past the end of the prompt."""
        context, length = self._stored[prompt]
        return F.pad(context, (0, 0, 0, length - len(context)))[None]


def pending(entries: list[Entry], args: argparse.Namespace, videos: Path) -> Iterator[Video]:
    """The videos of this shard that are not there yet."""
    part, parts = args.shard
    for entry in entries[part - 1 :: parts]:
        for sample in range(args.samples):
            video = Video(entry, sample, args.seed)
            if not (videos / video.name).exists():
                yield video


def run_vbench(args: argparse.Namespace) -> None:
    if not 1 <= args.samples <= SAMPLES:
        raise ValueError(f"--samples is {args.samples}; the evaluation looks for 1 to {SAMPLES}")
    check_model_arguments(args)
    suite = read_list(args.list)
    entries = choose(suite, args.dimensions)
    width, height = model_size(args)
    settings = Settings(width, height, args.frames, args.steps, args.cfg, args.shift, args.seed)
    parse_noise_levels(args.noise_levels, latent_length(args.frames))
    check_images(entries, args.images, width, height)
    files = read_models(args)
    videos = open_folder(args.out, run_settings(args, settings), suite, args.seed)
    todo = list(pending(entries, args, videos))
    log.info("shard %d of %d: %d videos to make, into %s", *args.shard, len(todo), videos)
    if not todo:
        return

    # the text encoder is gone before the DiT is built
    contexts = Contexts(args, sorted({args.negative, *(video.entry.prompt for video in todo)}))
    vae = load_vae(args)
    model, low = build_models(args, files)
    negative = contexts[args.negative] if args.cfg != 1 else None
    for video in tqdm(todo, desc="videos", unit="video"):
        picture = resize_cover(read_frames(args.images / video.entry.image), width, height)
        seeded = Settings(width, height, args.frames, args.steps, args.cfg, args.shift, video.seed)
        given = encode_keyframes(vae, [Keyframe(picture)], seeded, args.noise_levels)
        context = contexts[video.entry.prompt]
        latents = generate_latents(model, given, context, negative, seeded, low_noise_model=low, device=args.device)
        partial = args.out / f"shard-{args.shard[0]}-of-{args.shard[1]}.partial"
        write_video(vae.decode(latents), partial, FPS)
        partial.replace(videos / video.name)  # whole or not at all, so that an interrupted run can go on


def main(arguments: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(arguments)
    try:
        if process_count() > 1:
            raise ValueError("vbench works in one process; start one for each --shard")
        run_vbench(args)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
