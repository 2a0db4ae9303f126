"""``python -m benchmarks.vbench``: the videos of VBench's image-to-video suite, in the layout that VBench evaluates.

The ``vbench`` package takes the suffix of all videos from the first file listed in their folder. So the folder
``videos`` must not contain anything else; settings and seeds are stored next to it.
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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from pusa_core import (
    Keyframe,
    Settings,
    TextEncoder,
    encode_keyframes,
    generate_latents,
    load_text_encoder,
    load_vae,
    write_video,
)
from pusa_core.cli.generate import FPS, build_models
from pusa_core.cli.options import ModelOptions, SamplingOptions, add_model_flags, add_sampling_flags, options_from
from pusa_core.model.parallel import process_count
from pusa_core.sampling.keyframes import latent_length
from pusa_core.sampling.schedule import parse_noise_levels
from pusa_core.storage.atomic import SaveError, write_whole
from pusa_core.weights.demo_files import DEMO, DIT
from pusa_core.weights.load import read_model_files

from .suite import SAMPLES, Entry, Video, check_images, choose, read_list

log = logging.getLogger(__name__)

_SHARD = re.compile(r"(\d+)/(\d+)")


def shard_argument(text: str) -> tuple[int, int]:
    match = _SHARD.fullmatch(text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f'"{text}" is not I/N with I from 1 to N, such as 2/8')
    return int(match[1]), int(match[2])


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.vbench",
        description="Generate the videos of VBench's image-to-video suite.",
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("--list", type=Path, required=True, help="vbench2_i2v_full_info.json of a VBench checkout")
    add(
        "--images",
        type=Path,
        required=True,
        help="the suite's images in the video's aspect ratio, such as data/crop/7-4",
    )
    add("--out", type=Path, required=True, help="output folder; the videos go into its sub-folder videos/")
    add("--samples", type=int, default=SAMPLES, help=f"videos per prompt, at most {SAMPLES} (default {SAMPLES})")
    add("--dimensions", nargs="+", help="only prompts of these dimensions (default: all)")
    add("--shard", type=shard_argument, default=(1, 1), metavar="I/N", help="the Ith of N parts of the prompts")
    add("--negative", default="", help="negative prompt (used if cfg is not 1)")
    add("--noise-levels", default="0:0", help='noise level of the given frame (default "0:0": kept exactly)')
    add_sampling_flags(parser)  # --seed is the seed of the first video; the others are consecutive
    add_model_flags(parser)
    return parser


@dataclass(frozen=True)
class SuiteOptions:
    """``shard``: the Ith of N parts of the prompts."""

    list: Path
    images: Path
    out: Path
    sampling: SamplingOptions
    model: ModelOptions
    samples: int = SAMPLES
    dimensions: tuple[str, ...] | None = None
    shard: tuple[int, int] = (1, 1)
    negative: str = ""
    noise_levels: str = "0:0"

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= SAMPLES:
            raise ValueError(f"--samples is {self.samples}; the evaluation looks for 1 to {SAMPLES}")


def suite_options(args: argparse.Namespace) -> SuiteOptions:
    sampling, model = options_from(SamplingOptions, args), options_from(ModelOptions, args)
    return options_from(SuiteOptions, args, sampling=sampling, model=model)


def run_settings(options: SuiteOptions, settings: Settings) -> dict[str, Any]:
    """The settings that must match for resuming, as JSON types."""
    model = options.model
    files = [model.checkpoint or DIT, model.checkpoint_low]
    loras = [[Path(path).name, strength] for path, strength in [*(model.lora or ()), *(model.lora_low or ())]]
    return {
        "list": hashlib.sha256(options.list.read_bytes()).hexdigest(),
        "checkpoints": [Path(path).name for path in files if path is not None],
        "loras": loras if model.checkpoint or loras else "the demo model's",
        "size": [settings.width, settings.height],
        "frames": settings.frames,
        "steps": settings.steps,
        "cfg": settings.cfg,
        "shift": settings.shift,
        "negative": options.negative,
        "noise_levels": options.noise_levels,
        "first_seed": settings.seed,
        "dtype": model.dtype or "default",
    }


def open_folder(out: Path, wanted: dict[str, Any], entries: list[Entry], first_seed: int) -> Path:
    """Create the video folder, or reopen that of a run with the same settings; writes settings and seeds next to it.

    Raises ``ValueError`` if the folder belongs to a run with different settings, or contains other files.
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
        text = json.dumps(wanted, indent=1)
        write_whole(out / "run.json", partial(Path.write_text, data=text, encoding="utf-8"), replace=False)
    except SaveError:
        if not (out / "run.json").exists():
            raise
        found = json.loads((out / "run.json").read_text(encoding="utf-8"))
        for key, value in wanted.items():
            if found.get(key) != value:
                raise ValueError(
                    f"{out} was begun with {key} {found.get(key)}, not {value}; go on with the same, or give another "
                    f"--out"
                ) from None
    write_whole(out / "seeds.csv", partial(write_seeds, every))
    return videos


def write_seeds(videos: list[Video], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "image", "seed"])
        writer.writerows([video.name, video.entry.image, video.seed] for video in videos)


class Contexts:
    """Text embeddings without padding, so that those of the whole suite fit into memory."""

    def __init__(self, encode: TextEncoder, prompts: list[str]) -> None:
        self._stored: dict[str, tuple[Tensor, int]] = {}
        for prompt in tqdm(prompts, desc="prompts", unit="prompt"):
            context = encode(prompt)[0].cpu()
            used = int(context.any(-1).nonzero().max()) + 1 if context.any() else 0
            self._stored[prompt] = context[:used].clone(), len(context)

    def __getitem__(self, prompt: str) -> Tensor:
        """Context ``[1, L, text_dim]``, zero past the end of the prompt."""
        context, length = self._stored[prompt]
        return F.pad(context, (0, 0, 0, length - len(context)))[None]


def pending(entries: list[Entry], options: SuiteOptions, videos: Path) -> Iterator[Video]:
    """The videos of this shard that do not exist yet."""
    part, parts = options.shard
    for entry in entries[part - 1 :: parts]:
        for sample in range(options.samples):
            video = Video(entry, sample, options.sampling.seed)
            if not (videos / video.name).exists():
                yield video


def run_vbench(options: SuiteOptions) -> None:
    model, sampling = options.model, options.sampling
    suite = read_list(options.list)
    entries = choose(suite, options.dimensions)
    settings = sampling.settings(sampling.size or model.default_size)
    parse_noise_levels(options.noise_levels, latent_length(settings.frames))
    check_images(entries, options.images, settings.width, settings.height)
    files = [read_model_files(*expert) for expert in model.experts]
    videos = open_folder(options.out, run_settings(options, settings), suite, settings.seed)
    todo = list(pending(entries, options, videos))
    log.info("shard %d of %d: %d videos to make, into %s", *options.shard, len(todo), videos)
    if not todo:
        return

    encode = load_text_encoder(model.text_encoder or DEMO, device=model.device, dtype=model.torch_dtype)
    contexts = Contexts(encode, sorted({options.negative, *(video.entry.prompt for video in todo)}))
    del encode  # as large as the DiT: freed before the models are loaded
    vae = load_vae(model.vae or DEMO, device=model.device)
    high, low = build_models(files, model, model.device)
    negative = contexts[options.negative] if settings.cfg != 1 else None
    for video in tqdm(todo, desc="videos", unit="video"):
        seeded = replace(settings, seed=video.seed)
        picture = Keyframe.read(options.images / video.entry.image, seeded)
        given = encode_keyframes(vae, [picture], seeded, options.noise_levels)
        context = contexts[video.entry.prompt]
        latents = generate_latents(high, given, context, negative, seeded, low_noise_model=low, device=model.device)
        # the temporary lies outside of videos, which holds nothing else
        write_whole(videos / video.name, partial(write_video, vae.decode(latents), fps=FPS), temporary_in=options.out)


def main(arguments: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(arguments)
    try:
        if process_count() > 1:
            raise ValueError("vbench works in one process; start one for each --shard")
        run_vbench(suite_options(args))
    except (ValueError, OSError, SaveError) as error:
        sys.exit(f"error: {error}")
