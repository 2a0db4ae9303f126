"""``python -m pusa_core.training``: a folder of clips -> a LoRA."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

import torch

from ..media.text_encoder import load_text_encoder
from ..media.vae import load_vae
from ..storage.atomic import SaveError
from ..training.cache import CacheError
from ..training.config import SECTIONS, Config
from ..training.config_file import read_config
from ..training.failure import MEMORY, TrainingFailed
from ..training.options import usage
from ..training.prepare import LoadText, LoadVae
from ..training.run import RunOptions, train
from ..training.stop import StopRequest
from .options import options_from

log = logging.getLogger(__name__)

BAD_INPUT, CRASH = 2, 1


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see --help")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m pusa_core.training", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="the options; flags override it")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in output.folder")
    parser.add_argument("--cache-only", action="store_true", help="encode the clips and stop")
    parser.add_argument("--estimate", action="store_true", help="say how much memory and time it takes, and stop")
    parser.add_argument("--look", type=Path, metavar="FILE.png", help="draw what would be trained on, and stop")
    parser.add_argument("--progress", choices=("bar", "json"), default="bar", help="json: one object a line on stdout")
    parser.add_argument("--stop-on-stdin-close", action="store_true", help="stop as by Ctrl-C when stdin is closed")
    for section, kind in SECTIONS.items():
        group = parser.add_argument_group(f"[{section}]")
        for entry in fields(kind):
            text = usage(entry).replace("%", "%%")
            group.add_argument(f"--{section}.{entry.name}", metavar="VALUE", help=text)
    return parser


def parse_arguments(arguments: Sequence[str] | None) -> tuple[RunOptions, Config]:
    args, rest = build_parser().parse_known_args(arguments)
    given = {name: value for name, value in vars(args).items() if "." in name and value is not None}
    for text in rest:  # refused with the nearest known name
        given[text.removeprefix("--").partition("=")[0]] = text.partition("=")[2]
    return options_from(RunOptions, args), read_config(args.config, given)


def main(
    arguments: Sequence[str] | None = None,
    *,
    load_vae: LoadVae = load_vae,
    load_text_encoder: LoadText = load_text_encoder,
) -> int:
    """Run the command and return its exit code: 0, 130 when stopped, 2 for bad input, 1 for a crash.

    ``load_vae(path, device=...)`` and ``load_text_encoder(path, device=...)`` load what encodes clips and captions and
    decodes samples; they are called only when something has to be encoded or decoded.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    stop = StopRequest()
    try:
        options, config = parse_arguments(arguments)
        with stop.listening(on_stdin_close=options.stop_on_stdin_close):
            return train(options, config, load_vae, load_text_encoder, stop)
    except (ValueError, OSError, ImportError) as error:
        return _fail(error, BAD_INPUT)
    except (SaveError, CacheError, TrainingFailed) as error:
        return _fail(error, CRASH)
    except torch.OutOfMemoryError as error:
        log.exception("out of memory")
        return _fail(f"{MEMORY} ({error})", CRASH)
    except Exception as error:
        log.exception("the training crashed")
        return _fail(f"{type(error).__name__}: {error}", CRASH)


def _fail(error: object, code: int) -> int:
    with contextlib.suppress(OSError):  # the terminal is gone
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    return code
