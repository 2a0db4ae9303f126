"""What the commands here have in common."""

import argparse
import logging


def read_arguments(description: str | None, clips: int) -> argparse.Namespace:
    """The arguments of a command that measures on ``--clips``; from now on its log has the time."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--clips", type=int, default=clips)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    return parser.parse_args()
