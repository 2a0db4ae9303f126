"""``python -m pusa_core attention-map`` and ``python -m pusa_core drift``."""

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..analysis.attention_map import (
    AttentionMaps,
    AttentionRecorder,
    RecordedModel,
    frame_attention,
    parse_numbers,
    pooled_frame_attention,
)
from ..analysis.drift import Change, by_block, checkpoint_drift, lora_drift, save_table
from ..analysis.pictures import draw_attention_maps, draw_drift
from ..sampling.pipeline import generate_latents
from ..storage.atomic import write_whole
from ..storage.outputs import claim_outputs
from ..weights.demo_files import DEMO, DIT, LORA, file_or_demo
from ..weights.lora import load_lora
from .generate import build_models, encode_inputs, progress_bar, read_inputs
from .options import (
    DEMO_LORA_STRENGTH,
    LORA_STRENGTH,
    LoraFile,
    ModelOptions,
    SamplingOptions,
    VideoOptions,
    add_model_flags,
    add_sampling_flags,
    add_video_flags,
    options_from,
    parse_lora,
    parsed_by,
)

log = logging.getLogger(__name__)

STEPS, BLOCKS = "0,3,6,9", "-1"  # of the paper's figure


def figure_files(out: Path, *suffixes: str) -> list[Path]:
    """The PNG ``out`` and the files beside it. Raises ``ValueError`` unless it is a PNG."""
    if out.suffix != ".png":
        raise ValueError(f'--out is "{out}"; it must end in .png')
    return [out, *(out.with_suffix(suffix) for suffix in suffixes)]


@dataclass(frozen=True)
class AttentionMapOptions:
    out: Path
    video: VideoOptions
    sampling: SamplingOptions
    model: ModelOptions
    overwrite: bool = False
    blocks: str = BLOCKS
    record_steps: str = STEPS
    pooled: bool = False


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
    add("--record-steps", default=STEPS, help=f"sampling steps from 0 (default {STEPS}, as in the paper)")
    add("--pooled", action="store_true", help="average queries and keys of a frame before the softmax; not exact")
    add_video_flags(parser)
    add_sampling_flags(parser)
    add_model_flags(parser)
    parser.set_defaults(run=attention_map, options=attention_map_options)


def attention_map_options(args: argparse.Namespace) -> AttentionMapOptions:
    video, sampling = options_from(VideoOptions, args), options_from(SamplingOptions, args)
    model = options_from(ModelOptions, args)
    return options_from(AttentionMapOptions, args, video=video, sampling=sampling, model=model)


def attention_map(options: AttentionMapOptions) -> None:
    """Sample the video, and draw how its latent frames attend to each other."""
    png, table, npz = files = figure_files(options.out, ".csv", ".npz")
    with claim_outputs(files, [*options.video.files, *options.model.paths], options.overwrite):
        maps = record(options)
        maps.save(npz, table)
        write_whole(png, draw_attention_maps(maps).save)
    log.info("wrote %s, %s and %s\n%s", png, table, npz, maps.describe())


def record(options: AttentionMapOptions) -> AttentionMaps:
    """Sample the video and record its attention."""
    steps, blocks = parse_numbers(options.record_steps), parse_numbers(options.blocks)
    device = options.model.device
    inputs = read_inputs(options.video, options.sampling, options.model)
    recorder = AttentionRecorder(
        steps,
        blocks,
        total_steps=inputs.settings.steps,
        total_blocks=inputs.files[0].checkpoint.config.num_layers,
        measure=pooled_frame_attention if options.pooled else frame_attention,
    )
    encoded = encode_inputs(inputs, options.video, options.model, device)
    model, low = build_models(inputs.files, options.model, device)
    with progress_bar(inputs.settings.steps) as report:

        def after_step(*step: Any) -> None:
            report(*step)
            recorder.after_step(*step)

        generate_latents(
            RecordedModel(model, recorder, encoded.context),
            encoded.given,
            encoded.context,
            encoded.negative,
            inputs.settings,
            low_noise_model=None if low is None else RecordedModel(low, recorder, encoded.context),
            callback=after_step,
            device=device,
        )
    return recorder.result()


@dataclass(frozen=True)
class DriftOptions:
    """``other``: a checkpoint to compare with; where it is None, ``lora`` is what changes ``checkpoint``."""

    out: Path
    overwrite: bool = False
    checkpoint: str = DEMO
    other: str | None = None
    lora: LoraFile = (DEMO, DEMO_LORA_STRENGTH)


def add_drift(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("drift", help="which parameters a fine-tuning or a LoRA has moved, and how far")
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the PNG to write; a .csv with the numbers goes beside it")
    add("--overwrite", action="store_true", help="replace existing output files")
    add("--checkpoint", default=DEMO, help="Wan T2V weights (default: the demo model)")
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--other", help="the weights to compare them with")
    change.add_argument(
        "--lora",
        type=parsed_by(parse_lora),
        default=DriftOptions.lora,
        metavar="FILE[:STRENGTH]",
        help=f"the LoRA that changes them, at strength {LORA_STRENGTH} if left out (default: the demo model's)",
    )
    parser.set_defaults(run=drift, options=partial(options_from, DriftOptions))


def with_bar(measure: Callable[..., list[Change]]) -> list[Change]:
    from tqdm import tqdm

    with tqdm(desc="reading", unit="tensor") as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update()

        return measure(report=report)


def drift(options: DriftOptions) -> None:
    """Draw which parameters have moved, and write the numbers."""
    png, table = files = figure_files(options.out, ".csv")
    base = file_or_demo(options.checkpoint, DIT)
    other = file_or_demo(options.lora[0], LORA) if options.other is None else Path(options.other)
    with claim_outputs(files, [base, other], options.overwrite):
        if options.other is not None:
            title = f"{base.name} to {other.name}"
            changes = with_bar(partial(checkpoint_drift, base, other))
        else:
            strength = options.lora[1]
            title = f"{other.name} at {strength:g} on {base.name}"
            changes = with_bar(partial(lora_drift, base, load_lora(other), strength))
        save_table(changes, table)
        write_whole(png, draw_drift(changes, title, lora=options.other is None).save)
    largest = max(by_block(changes), key=lambda entry: entry[1])
    log.info("wrote %s and %s; block %s changed most, by %.2f%%", png, table, largest[0], 100 * largest[1])
