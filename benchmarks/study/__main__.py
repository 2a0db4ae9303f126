"""The paper's tables at the scale of the demo model: ``python -m benchmarks.study``.

Writes ``docs/study.md`` and the figures in ``docs/study``. Takes two hours on one CPU core; ``--jobs 2`` uses two.
Results are cached in ``benchmarks/.cache``: an interrupted study resumes, and the report of a finished one is
regenerated in seconds. Needs matplotlib (the ``study`` extra). ``--smoke`` runs everything at a tiny size, into
``output/study-smoke``.
"""

import argparse
import logging
from pathlib import Path

import torch

from benchmarks.study.ahead import compute_ahead
from benchmarks.study.cells import Bench
from benchmarks.study.plan import FULL, SMOKE
from benchmarks.study.report import write
from benchmarks.study.store import Store

ROOT = Path(__file__).parents[2]
log = logging.getLogger(__name__)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("pusa_core").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny size, to test that everything runs")
    parser.add_argument("--threads", type=int, help="PyTorch threads (default: PyTorch's own)")
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel processes")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    smoke = ROOT / "output" / "study-smoke"
    folder = smoke / "cache" if args.smoke else ROOT / "benchmarks" / ".cache" / "study"
    out = smoke / "study.md" if args.smoke else ROOT / "docs" / "study.md"
    bench = Bench(Store(folder), SMOKE if args.smoke else FULL)
    if args.jobs > 1:
        compute_ahead(bench, args.jobs)
    write(bench, out, "python -m benchmarks.study" + (" --smoke" if args.smoke else ""))
    log.info("wrote %s", out)


if __name__ == "__main__":
    main()
