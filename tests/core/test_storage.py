"""Files are written whole or not at all, by one process at a time, and never over what others need."""

import subprocess
import sys
from pathlib import Path

import pytest

from pusa_core.storage.lock import hold_lock
from tools.comfyui import PACK

HOLD = """
import sys, time
from pusa_core.storage.lock import hold_lock
with hold_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_lock_is_held_once_and_leaves_nothing(tmp_path, kind):
    target = tmp_path if kind == "folder" else tmp_path / "out.mp4"
    with hold_lock(target), pytest.raises(ValueError, match="another process"), hold_lock(target):
        pass
    with hold_lock(target):
        pass
    assert not names(tmp_path)


def test_a_lock_holds_by_whichever_link_it_is_reached(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    there, by_link = tmp_path / "folder" / "out.mp4", tmp_path / "link" / "out.mp4"
    with hold_lock(there), pytest.raises(ValueError, match="mine"), hold_lock(by_link, "mine"):
        pass


def test_a_lock_ends_with_its_process_when_it_is_killed(tmp_path):
    target = tmp_path / "out.mp4"
    with subprocess.Popen([sys.executable, "-c", HOLD, target], cwd=PACK, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=r"out\.mp4 is being written"), hold_lock(target):
            pass
        process.kill()
        process.wait()
    with hold_lock(target):
        pass
