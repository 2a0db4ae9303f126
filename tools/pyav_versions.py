"""Tests of reading and writing media with every PyAV that ComfyUI accepts: ``python -m tools.pyav_versions``.

Installs each version into a temporary folder, which leaves the environment as it is. Exits with 1 where a test fails.
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile

from tools.comfyui import PACK

VERSIONS = ("14.2.0", "15.1.0", "16.0.1", "17.0.1", "18.1.0")
TESTS = ("tests/core/test_media_reading.py", "tests/core/test_media_writing.py")

log = logging.getLogger(__name__)


def passes(version: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, f"av=={version}"]
        subprocess.run(install, check=True)
        test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
        return subprocess.run(test, cwd=PACK, env={**os.environ, "PYTHONPATH": folder}, check=False).returncode == 0


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", default=VERSIONS, help=f"default: {' '.join(VERSIONS)}")
    results = {}
    for version in parser.parse_args().versions:
        log.info("PyAV %s", version)
        results[version] = passes(version)
    for version, passed in results.items():
        log.info("PyAV %s: %s", version, "passed" if passed else "FAILED")
    return not all(results.values())


if __name__ == "__main__":
    sys.exit(main())
