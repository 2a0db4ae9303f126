"""What README.md tells somebody who knows nothing of the project is true of this repository."""

import argparse
import re
import shlex
import sys

import pytest
from PIL import Image

from tools.comfyui import PACK
from tools.workflows import files

README = (PACK / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```\n(.+?)```", README, re.DOTALL)
    for line in block.replace("&&", "\n").splitlines()
]
FILES = [files.T2V, files.PUSA_LORA, files.TEXT_ENCODER, files.VAE]


def commands(*start: str) -> list[list[str]]:
    return [command[len(start) :] for command in COMMANDS if command[: len(start)] == list(start)]


def test_every_command_is_of_a_kind_that_is_tested_here():
    assert {command[0] for command in COMMANDS} == {"python", "hf", "mv"}
    assert [command[:2] for command in COMMANDS if command[0] == "python"] == [["python", "run.py"]] * 2
    assert len(commands("hf")) == len(commands("hf", "download")) == len(FILES)


def test_the_two_commands_are_tasks_of_run_py(monkeypatch):
    import run

    called = []
    for name in ("demo", "test"):
        monkeypatch.setattr(run, name, lambda rest, name=name: called.append((name, rest)) or 0)
    for command in commands("python", "run.py"):
        monkeypatch.setattr(sys, "argv", ["run.py", *command])
        with pytest.raises(SystemExit) as ended:
            run.main()
        assert ended.value.code == 0
    assert called == [("demo", []), ("test", [])]


def test_the_table_lists_the_files_of_the_workflows_with_their_folders():
    rows = re.findall(r"^\| \[(.+?)\]\((https://.+?)\).*\| `(\w+)` \|$", README, re.MULTILINE)
    listed = [{"name": name, "url": url, "directory": folder} for name, url, folder in rows]
    assert listed == FILES


def test_the_downloads_put_every_file_of_the_table_into_its_folder():
    parser = argparse.ArgumentParser()
    for name in ("repository", "file", "--local-dir"):
        parser.add_argument(name)
    placed = {}
    for arguments in commands("hf", "download"):
        args = parser.parse_args(arguments)
        assert args.local_dir == "."
        url = f"{files.HUB}/{args.repository}/resolve/main/{args.file}"
        folder, _, name = args.file.rpartition("/")
        placed[url] = next(f"{target}{name}" for source, target in commands("mv") if source == f"{folder}/*")
    assert placed == {file["url"]: f"{file['directory']}/{file['name']}" for file in FILES}


def test_the_moving_picture_moves_and_is_small():
    path = PACK / "docs" / "media" / "tasks.webp"
    assert path.stat().st_size < 2_000_000
    with Image.open(path) as picture:
        assert picture.is_animated and picture.n_frames >= 40
    assert README.index("docs/media/tasks.webp") < README.index("## ")


def test_the_picture_of_the_timeline_is_small_and_in_its_help():
    assert (PACK / "web" / "docs" / "timeline.webp").stat().st_size < 300_000
    assert "](web/docs/timeline.webp)" in README
    assert "](timeline.webp)" in (PACK / "web" / "docs" / "PusaFrameMask.md").read_text(encoding="utf-8")


def test_files_that_the_page_names_exist():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    named = re.findall(r"`(workflows/[^`]+)`", README)
    assert links and named and all((PACK / name).exists() for name in [*links, *named])


def test_the_arithmetic_of_the_page():
    per_frame, per_token = 6 * 21 * 5120 * 4, 6 * (21 * 45 * 80) * 5120 * 4
    assert f"{per_frame / 1e6:.1f} MB" == "2.6 MB" and "2.6 MB: one vector per frame" in README
    assert f"{per_token / 1e9:.2f} GB" == "9.29 GB" and "9.29 GB where every token" in README
    step = 0.304 * 10 * 2  # 40 of 4 layers, with guidance
    assert f"{step:.1f} eager" in README and round(step * 10, -1) == 60 and f"{step / 2 * 4:.0f} s" in README
