"""``python -m pusa_core``: the commands."""

import argparse
import logging
import os
import sys

from ..model.parallel import process_count
from ..storage.atomic import SaveError
from .analysis import add_attention_map, add_drift
from .bridge import add_bridges
from .decode import add_decode
from .extend import add_extend
from .generate import add_generate

log = logging.getLogger(__name__)

INTERRUPTED = 130  # as shells say it
MOVED = {"vbench": "vbench is a benchmark now: python -m benchmarks.vbench, from the repository, with the same options"}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pusa_core", description="Pusa video generation without ComfyUI.")
    commands = parser.add_subparsers(dest="command", required=True)
    for add_command in (add_generate, add_extend, add_bridges, add_decode, add_attention_map, add_drift):
        add_command(commands)
    return parser


def join_negative_positions(arguments: list[str]) -> list[str]:
    """``--keyframe -1=end.png`` as one argument: argparse takes a value that begins with - for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in ("--keyframe", "--noise-levels", "--blocks") and argument.startswith("-"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def main(arguments: list[str] | None = None) -> None:
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING  # of several processes, one logs
    logging.basicConfig(level=level, format="%(message)s")
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in MOVED:
        sys.exit(f"error: {MOVED[arguments[0]]}")
    args = build_parser().parse_args(join_negative_positions(arguments))
    try:
        if args.command != "generate" and process_count() > 1:
            raise ValueError(f"{args.command} works in one process; start it without torchrun")
        args.run(args.options(args))
    except ImportError as error:
        sys.exit(f'error: {error}; install what works without ComfyUI: pip install "pusa[standalone]"')
    except (ValueError, OSError, SaveError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # of the libraries below, such as a full GPU
        log.debug("", exc_info=True)
        sys.exit(f"error: {type(error).__name__}: {' '.join(str(error).split())}")
