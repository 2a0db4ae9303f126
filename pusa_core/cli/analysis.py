"""``python -m pusa_core attention-map`` and ``python -m pusa_core drift``."""

import argparse
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ..analysis.attention_map import (
    AttentionRecorder,
    RecordedModel,
    frame_attention,
    parse_numbers,
    pooled_frame_attention,
)
from ..analysis.drift import Change, by_block, checkpoint_drift, lora_drift, save_table
from ..analysis.pictures import draw_attention_maps, draw_drift
from ..weights.checkpoints import read_checkpoint
from ..weights.lora import load_lora
from .generate import add_sampling_arguments, add_video_arguments, check_output, prepared
from .model_files import (
    DEMO_CHECKPOINT,
    DEMO_LORA,
    DEMO_LORA_STRENGTH,
    LORA_STRENGTH,
    add_model_arguments,
    check_model_arguments,
    lora_argument,
)

log = logging.getLogger(__name__)

STEPS, BLOCKS = "0,3,6,9", "-1"  # of the paper's figure


def add_attention_map(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "attention-map",
        help="how latent frames attend to each other while a video is made",
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the PNG to write; .csv and .npz with the numbers go beside it")
    add("--overwrite", action="store_true", help="replace existing output files")
    add("--blocks", default=BLOCKS, help=f"from 0; -1 is the last (default {BLOCKS})")
    add(
        "--record-steps",
        default=STEPS,
        help=f"sampling steps from 0 (default {STEPS}, as in the paper)",
    )
    add("--pooled", action="store_true", help="average queries and keys of a frame before the softmax; not exact")
    add_video_arguments(parser)
    add_sampling_arguments(parser)
    add_model_arguments(parser)
    parser.set_defaults(run=run_attention_map, given_frames_refresh=1)  # a map shows all frames, so all are computed


def output_files(args: argparse.Namespace, *suffixes: str) -> list[Path]:
    """The PNG and what goes beside it. Raises when one exists, or the PNG is none."""
    if args.out.suffix != ".png":
        raise ValueError(f'--out is "{args.out}"; it must end in .png')
    paths = [args.out, *(args.out.with_suffix(suffix) for suffix in suffixes)]
    check_output(paths, args.overwrite)
    return paths


def run_attention_map(args: argparse.Namespace) -> None:
    png, table, npz = output_files(args, ".csv", ".npz")
    check_model_arguments(args)
    steps, blocks = parse_numbers(args.record_steps), parse_numbers(args.blocks)
    recorder = AttentionRecorder(
        steps,
        blocks,
        total_steps=args.steps,
        total_blocks=read_checkpoint(args.checkpoint or DEMO_CHECKPOINT).config.num_layers,
        measure=pooled_frame_attention if args.pooled else frame_attention,
    )
    with prepared(args) as job:
        job.latents(recorder.after_step, through=lambda model: RecordedModel(model, recorder, job.context))
    maps = recorder.result()
    png.parent.mkdir(parents=True, exist_ok=True)
    maps.save(npz, table)
    draw_attention_maps(maps).save(png)
    log.info("wrote %s, %s and %s\n%s", png, table, npz, maps.describe())


def add_drift(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("drift", help="which parameters a fine-tuning or a LoRA has moved, and how far")
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the PNG to write; a .csv with the numbers goes beside it")
    add("--overwrite", action="store_true", help="replace existing output files")
    add("--checkpoint", type=Path, default=DEMO_CHECKPOINT, help="Wan T2V weights (default: the demo model)")
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--other", type=Path, help="the weights to compare them with")
    change.add_argument(
        "--lora",
        type=lora_argument,
        default=(DEMO_LORA, DEMO_LORA_STRENGTH),
        metavar="FILE[:STRENGTH]",
        help=f"the LoRA that changes them, at strength {LORA_STRENGTH} if left out (default: the demo model's)",
    )
    parser.set_defaults(run=run_drift)


def with_bar(drift: Callable[..., list[Change]]) -> list[Change]:
    with tqdm(desc="reading", unit="tensor") as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update()

        return drift(report=report)


def run_drift(args: argparse.Namespace) -> None:
    png, table = output_files(args, ".csv")
    if args.other is not None:
        title = f"{args.checkpoint.name} to {args.other.name}"
        changes = with_bar(partial(checkpoint_drift, args.checkpoint, args.other))
    else:
        file, strength = args.lora
        title = f"{file.name} at {strength:g} on {args.checkpoint.name}"
        changes = with_bar(partial(lora_drift, args.checkpoint, load_lora(file), strength))
    png.parent.mkdir(parents=True, exist_ok=True)
    save_table(changes, table)
    draw_drift(changes, title, lora=args.other is None).save(png)
    largest = max(by_block(changes), key=lambda entry: entry[1])
    log.info("wrote %s and %s; block %s changed most, by %.2f%%", png, table, largest[0], 100 * largest[1])
