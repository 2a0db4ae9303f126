"""Command-line parsing and logging shared by the demo model's benchmarks."""

import argparse
import logging


def read_arguments(description: str | None, clips: int) -> argparse.Namespace:
    """Parse the arguments of a command with a ``--clips`` flag, and configure logging with timestamps."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--clips", type=int, default=clips)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    return parser.parse_args()
