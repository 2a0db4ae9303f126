"""``python -m pusa_core extend``: a clip, a picture or a prompt alone -> a video of any length, scene by scene."""

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..film.film import Film
from ..media.clip import Clip
from ..media.video import check_encoding
from ..sampling.extend import LongVideo, Take
from ..sampling.plan import Timeline, parse_prompts, plan_hops
from ..sampling.scenes import Scenes
from ..sampling.settings import Settings
from ..sampling.windows import MODES, RECIPES, Recipe, check_experts, parse_levels
from ..storage.atomic import clear_partial
from ..storage.lock import hold_lock
from ..storage.outputs import check_outputs, claim_outputs
from ..weights.load import read_model_files
from .film import FilmJob, identity, write_film
from .job import Job, read_takes, retaken
from .options import ModelOptions, SamplingOptions, add_model_flags, add_sampling_flags, options_from, parsed_by
from .output import FPS, VideoOutput, add_output_flags

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtendOptions:
    """``job``: what the flags say; of a retake, or without a prompt, the job is that of the folder.

    ``default``: the job of no flags at all. ``seed``: of a retake, where one is given.
    """

    output: VideoOutput
    job: Job
    default: Job
    scenes: Path | None = None
    retake: int | None = None
    until: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.retake is not None and [start for start, _ in self.job.prompts] not in ([], [0.0]):
            raise ValueError("--retake makes one scene anew, by one prompt without a time")
        check_outputs(self.outputs, self.job.inputs, self.output.overwrite)

    @property
    def outputs(self) -> list[Path]:
        return [self.output.out, self.output.sheet]

    @property
    def folder(self) -> Path:
        return self.output.out.with_suffix(".scenes") if self.scenes is None else self.scenes


def add_extend(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "extend",
        help="make a video of any length, or go on from a clip",
        description="Goes on from a clip or a picture, or begins with the prompt alone, scene by scene.",
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("clip", nargs="?", metavar="CLIP|PICTURE", help="what the video begins with; its frames and sound are kept")
    add("--seconds", type=float, help="length of the whole video")
    add(
        "--prompt",
        action="append",
        default=[],
        metavar="[TIMEs:] TEXT",
        help='what the video shows; "10s: TEXT" from second 10 on; repeatable',
    )
    add("--negative", default="", help="negative prompt (used when cfg is not 1)")
    add_output_flags(parser)
    add("--fps", type=int, default=FPS, help="frames per second of the model, and of the file (default %(default)s)")
    add("--scenes", type=Path, metavar="FOLDER", help="where every scene is kept (default: OUT.scenes)")
    add("--retake", type=int, metavar="N", help="make scene N of the folder anew, by --seed and --prompt if given")
    add("--until", type=int, metavar="N", help="stop after scene N")
    _add_recipe_flags(parser)
    add_sampling_flags(parser)
    parser.set_defaults(seed=None)  # of a retake, 0 is a seed like others
    add(
        "--given-frames-refresh",
        type=int,
        default=Settings.given_frames_refresh,
        metavar="STEPS",
        help="as in generate",
    )
    add_model_flags(parser)
    parser.set_defaults(run=extend, options=lambda args: extend_options(args, parser.parse_args(["--out", "x.mp4"])))


def _add_recipe_flags(parser: argparse.ArgumentParser) -> None:
    add, chunk, rolling = parser.add_argument, RECIPES["chunk"], RECIPES["rolling"]
    add(
        "--mode",
        choices=MODES,
        default=chunk.mode,
        help="chunk: all new frames of a scene together (default)\nrolling: a few are finished and begun at a time",
    )
    add(
        "--history",
        type=int,
        metavar="LATENTS",
        help=f"newest latent frames that each window sees (default {chunk.history}, rolling {rolling.history})",
    )
    add(
        "--history-levels",
        type=parsed_by(parse_levels),
        metavar="OLDEST..NEWEST",
        help="their noise levels (default {}..{}, rolling {}..{})".format(*chunk.levels, *rolling.levels),
    )
    add("--no-anchor", action="store_true", help="leave the first latent frame out of the windows")
    add("--no-match-colour", action="store_true", help="do not hold the colours of the first scene")
    add(
        "--history-guidance",
        type=float,
        default=chunk.history_guidance,
        help="above 1 ties new frames to the old ones, below loosens them; twice the time (default 1: off)",
    )
    add("--block", type=int, default=chunk.block, help="latent frames finished at a time when rolling (default 4)")


def _recipe(args: argparse.Namespace) -> Recipe:
    recipe = RECIPES[args.mode]
    return replace(
        recipe,
        anchor=not args.no_anchor,
        history=recipe.history if args.history is None else args.history,
        levels=args.history_levels or recipe.levels,
        match_colour=not args.no_match_colour,
        history_guidance=args.history_guidance,
        block=args.block,
    )


def _job(args: argparse.Namespace) -> Job:
    return Job(
        clip=args.clip,
        seconds=args.seconds,
        fps=args.fps,
        prompts=parse_prompts(args.prompt) if args.prompt else (),
        negative=args.negative,
        sampling=replace(options_from(SamplingOptions, args), seed=args.seed or Settings.seed),
        recipe=_recipe(args),
        model=options_from(ModelOptions, args).for_long_videos(),
    )


def extend_options(args: argparse.Namespace, unset: argparse.Namespace) -> ExtendOptions:
    output = options_from(VideoOutput, args)
    return ExtendOptions(output, _job(args), _job(unset), args.scenes, args.retake, args.until, args.seed)


def extend(options: ExtendOptions) -> None:
    """Make the scenes that are not there yet, and the video of all."""
    folder = options.folder
    with _claimed(folder):
        scenes = Scenes(folder)
        scenes.clear_partial()
        job, takes = _chosen(options, scenes.read_index())
        film = _read_film(options, job, takes, scenes)
        with claim_outputs(options.outputs, job.inputs, options.output.overwrite):
            clear_partial(options.output.out)
            write_film(film, options.output)


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """The folder of the scenes, made where it is missing, and locked; one that stays empty goes again."""
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with hold_lock(folder, f"{folder} is being written by another run; wait for it, or give another --scenes"):
            yield
    finally:
        if new:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def _chosen(options: ExtendOptions, index: dict[str, Any]) -> tuple[Job, dict[int, Take]]:
    """What is to be made, by the flags or by the folder, and the takes that were chosen so far."""
    if options.retake is None and options.job.prompts:
        before = Job.of_record(index["job"], options.job.model) if "job" in index else None
        return options.job, read_takes(index) if before is not None and before.same_film(options.job) else {}
    if "job" not in index:
        raise ValueError(
            f"{options.folder} holds no scenes to go on from; to make them, give a prompt, such as "
            f'--prompt "a cat walks through a garden", and no --retake'
        )
    job = Job.of_record(index["job"], options.job.model)
    job.refuse_changes(options.job, options.default)
    return job, read_takes(index)


def _read_film(options: ExtendOptions, job: Job, takes: dict[int, Take], scenes: Scenes) -> FilmJob:
    """Read what the job names, and plan it. Whatever can be refused is refused here."""
    clip = None if job.clip is None else Clip.open(Path(job.clip), job.fps)
    total = job.frames(clip)
    files = [read_model_files(*expert) for expert in job.model.experts]
    settings = job.settings(clip, files[0].checkpoint.family)
    check_encoding(settings.width, settings.height, job.fps)
    check_experts(job.recipe, len(files))
    timeline = Timeline(0 if clip is None else clip.frames, total, job.fps)
    film = Film(settings, job.recipe, timeline, scenes, identity(job, files), job.record(), clip)
    hops = plan_hops(timeline, job.prompts, job.recipe, film.window, film.known)
    for name, number in (("--retake", options.retake), ("--until", options.until)):
        if number is not None and not 1 <= number <= len(hops):
            raise ValueError(f"{name} is {number}, but the video has the scenes 1 to {len(hops)}; choose one of them")
    if options.retake is not None:
        planned = LongVideo(settings, job.recipe, hops, {}, {}).seed(options.retake)
        prompt = job_prompt(options)
        takes = takes | {options.retake: retaken(takes, options.retake, planned, options.seed, prompt)}
    film = replace(film, hops=hops[: options.until], takes=takes)
    return FilmJob(film, job, files, None if clip is None else clip.path)


def job_prompt(options: ExtendOptions) -> str | None:
    """The prompt of a retake, where one is given."""
    return options.job.prompts[0][1] if options.job.prompts else None
