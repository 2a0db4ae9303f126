"""A browser to open ComfyUI's page."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("PUSA_SCREENSHOTS", tmp_path_factory.mktemp("screenshots")))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium that ``drive.mjs`` can drive; skips the test when a piece is absent."""
    if shutil.which("node") is None:
        pytest.skip("no node found: install Node.js to run the browser tests")
    if subprocess.run(["node", "-e", "require('playwright-core')"], cwd=HERE, capture_output=True).returncode:
        pytest.skip("no playwright-core found: run `npm install playwright-core` in tests/browser, or set NODE_PATH")
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium found: install it, or set CHROMIUM")
    return browser
