"""Files are written whole or not at all, by one process at a time, and never over what others need."""

import subprocess
import sys
from pathlib import Path

import pytest

from pusa_core.storage.atomic import SaveError, write_whole
from pusa_core.storage.lock import hold_lock
from pusa_core.storage.outputs import check_outputs
from tools.comfyui import PACK

HOLD = """
import sys, time
from pusa_core.storage.atomic import SaveError, write_whole
from pusa_core.storage.lock import hold_lock
from pusa_core.storage.outputs import check_outputs
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


def write_text(path: Path) -> None:
    path.write_text("new")


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path):
    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(SaveError, match=r"out\.csv .*No space left on device"):
        write_whole(tmp_path / "out.csv", fail)
    assert names(tmp_path) == ["out.csv"] and (tmp_path / "out.csv").read_text() == "old"


def test_a_killed_write_leaves_nothing_under_the_name(tmp_path):
    script = f"""
import os, signal
from pathlib import Path
from pusa_core.storage.atomic import write_whole
def die(path):
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
write_whole(Path({str(tmp_path / "out.csv")!r}), die)
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=PACK, timeout=120).returncode
    assert not (tmp_path / "out.csv").exists()
    write_whole(tmp_path / "out.csv", write_text)
    assert (tmp_path / "out.csv").read_text() == "new"


@pytest.mark.parametrize("stranger", ["out.csv.partial", ".out.csv.partial", "out.csv.pusa.partial"])
def test_a_write_touches_no_file_of_others(tmp_path, stranger):
    (tmp_path / stranger).write_text("mine")
    write_whole(tmp_path / "out.csv", write_text)
    assert (tmp_path / stranger).read_text() == "mine" and names(tmp_path) == sorted(["out.csv", stranger])


def test_a_file_that_appeared_meanwhile_is_not_replaced(tmp_path):
    def write(path: Path) -> None:
        path.write_text("ours")
        (tmp_path / "out.csv").write_text("theirs")

    with pytest.raises(SaveError, match="there already"):
        write_whole(tmp_path / "out.csv", write, replace=False)
    assert (tmp_path / "out.csv").read_text() == "theirs" and names(tmp_path) == ["out.csv"]
    write_whole(tmp_path / "new.csv", write_text, replace=False)
    assert (tmp_path / "new.csv").read_text() == "new"


def test_a_folder_replaces_a_folder(tmp_path):
    for content in ("a", "b"):
        write_whole(tmp_path / "folder", lambda path, content=content: (path.mkdir(), (path / content).touch()))
    assert names(tmp_path / "folder") == ["b"] and names(tmp_path) == ["folder"]


@pytest.mark.parametrize("link", ["same", "symbolic link", "hard link", "folder link"])
def test_an_output_is_never_an_input(tmp_path, link):
    picture, out = tmp_path / "cat.png", tmp_path / "out.png"
    picture.write_text("cat")
    if link == "same":
        out = tmp_path / "folder" / ".." / "cat.png"
        (tmp_path / "folder").mkdir()
    elif link == "symbolic link":
        out.symlink_to(picture)
    elif link == "hard link":
        out.hardlink_to(picture)
    else:
        (tmp_path / "link").symlink_to(tmp_path)
        out = tmp_path / "link" / "cat.png"
    with pytest.raises(ValueError, match="is an input of this command"):
        check_outputs([out], [picture], overwrite=True)


@pytest.mark.parametrize("name", ["CON.mp4", "nul.mp4", "COM1.sheet.mp4", "lpt9.mp4", "aux", "a\0b.mp4"])
def test_a_name_that_no_file_can_have_is_refused_on_every_system(tmp_path, name):
    with pytest.raises(ValueError, match="choose another"):
        check_outputs([tmp_path / name], [], overwrite=True)
    with pytest.raises(ValueError, match="choose another"):
        check_outputs([tmp_path / name / "out.mp4"], [], overwrite=True)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file/x.mp4", r"file is a file, not a folder; x\.mp4 cannot be written there"),
        ("file/new/x.mp4", "file is a file"),
        ("folder.mp4", "is a folder or a device"),
        ("dangling/x.mp4", "is a link to nothing"),
        ("there.mp4", r"there\.mp4 exists; give another name, or --overwrite"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_refused(tmp_path, out, message):
    (tmp_path / "file").touch()
    (tmp_path / "there.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    with pytest.raises((ValueError, FileExistsError), match=message):
        check_outputs([tmp_path / out], [], overwrite=False)
    assert names(tmp_path) == ["dangling", "file", "folder.mp4", "there.mp4"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder that even root cannot write to")
def test_a_folder_that_cannot_be_written_to_is_refused():
    with pytest.raises(ValueError, match="/proc cannot be written to"):
        check_outputs([Path("/proc/new/out.mp4")], [], overwrite=True)
