"""What the tests of the training command share, and those of the page's JavaScript."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.resume_kills import command, finish, make_clips


@pytest.fixture(scope="session", autouse=True)
def hang_up_ends_a_process() -> Iterator[None]:
    """Also where the tests run under nohup: processes that they start would inherit that the signal is ignored."""
    if not hasattr(signal, "SIGHUP"):  # Windows
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def demo_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of the demo's shapes, encoded."""
    pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("training")
    clips = make_clips(folder / "clips")
    finish(command(clips, folder / "unused", "--cache-only"))
    return clips


@pytest.fixture(scope="session")
def node() -> str:
    path = shutil.which("node")
    if path is None:
        pytest.skip("no node found: install Node.js to test the page's JavaScript")
    return path
