"""What the tests of the training command share."""

from pathlib import Path

import pytest

from benchmarks.resume_kills import command, finish, make_clips


@pytest.fixture(scope="session")
def demo_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of the demo's shapes, encoded."""
    pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("training")
    clips = make_clips(folder / "clips")
    finish(command(clips, folder / "unused", "--cache-only"))
    return clips
