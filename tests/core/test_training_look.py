"""The contact sheet of what will be trained, and what goes to boards."""

import sys
from types import SimpleNamespace

import pytest
from PIL import Image

from pusa_core.training import look
from pusa_core.training.boards import WeightsAndBiases
from pusa_core.training.launch import Launch
from pusa_core.training.prepare import Preparation
from tests.core.test_training_excerpts import captioned, tables
from tests.core.test_training_scan import Recorded
from tests.support.patience import wait_for


def never(*_, **__):
    raise AssertionError("no model is loaded")


@pytest.fixture
def drawn(monkeypatch):
    """What is written onto pictures."""
    texts, make = [], look.ImageDraw.Draw

    def recording(sheet):
        draw = make(sheet)
        plain = draw.text
        draw.text = lambda place, text, *a, **k: (texts.append(text), plain(place, text, *a, **k))
        return draw

    monkeypatch.setattr(look.ImageDraw, "Draw", recording)
    return texts


def test_the_sheet_shows_every_excerpt_with_caption_size_length_and_place(tmp_path, drawn):
    for name, frames in (("a.mp4", 30), ("b.mp4", 9), ("gone.mp4", 9), ("red.png", None)):
        captioned(tmp_path / "x" / name, frames, (64, 32))
    (tmp_path / "x" / "gone.mp4").write_bytes(b"no video")
    folder = {"folder": str(tmp_path / "x"), "excerpt": "all", "width": 64, "height": 32, "repeats": 2, "frames": 9}
    config, report = tables(tmp_path, folder, validation=1), Recorded()
    picture = Preparation(config, never, never, Launch(config.train), report).look()
    assert drawn[:3] == [
        "5 excerpts of 3 clips, 1 of them for validation",
        next(text for text in drawn if text.startswith("64 x 32, 1 frames")),
        next(text for text in drawn if text.startswith("64 x 32, 9 frames")),
    ]
    assert drawn.count("a.mp4, 2 times an epoch") == 3
    assert "9 frames of 64 x 32: frames 18 to 26, 1.125 to 1.688 s" in drawn
    assert "picture, 64 x 32" in drawn and "validation" in drawn and {"a", "b", "red"} < set(drawn)
    assert [values["file"] for event, values in report.events if event == "skipped"] == ["gone.mp4"]
    # the pictures are the frames: a's get lighter from left to right, and from row to row
    top = picture.height - 5 * (look.HIGH + look.GAP)
    width, height = look.WIDE + look.GAP, look.HIGH + look.GAP
    rows = [[picture.getpixel((x * width + 20, top + y * height + 9))[0] for x in (0, 4)] for y in range(3)]
    assert rows[0][0] < rows[0][1] < rows[1][0] < rows[1][1] < rows[2][0] < rows[2][1]


def test_of_many_excerpts_some_are_shown(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(look, "ROWS", 3)
    captioned(tmp_path / "x" / "a.mp4", 30)
    config = tables(tmp_path, {"folder": str(tmp_path / "x"), "excerpt": "sliding", "excerpt_stride": 1, "frames": 9})
    picture = Preparation(config, never, never, Launch(config.train), Recorded()).look()
    assert "3 of them are shown" in drawn and picture.height < 5 * look.HIGH
    assert any("frames 0 to 8" in text for text in drawn) and any("frames 21 to 29" in text for text in drawn)


class FakeRun:
    def __init__(self):
        self.logged, self.finished = [], False

    def log(self, values, step):
        if step == 3:
            raise ConnectionError("the network is down")
        self.logged.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def fake_wandb(monkeypatch):
    run, started = FakeRun(), {}
    module = SimpleNamespace(init=lambda **options: started.update(options) or run, Image=lambda path: ("image", path))
    monkeypatch.setitem(sys.modules, "wandb", module)
    return run, started


def test_wandb_gets_rows_and_pictures_and_its_failures_end_nothing(tmp_path, fake_wandb, caplog):
    run, started = fake_wandb
    board = WeightsAndBiases("pusa", "id1", "run", tmp_path, {"train": {"lr": 1.0}})
    assert (started["project"], started["id"], started["resume"]) == ("pusa", "id1", "allow")
    for step in (1, 2, 3, 4):
        board.add(step, {"loss": 0.5})
    board.add_sample(4, "sample_2", tmp_path / "s.png")
    board.close()
    assert run.logged[:3] == [(1, {"loss": 0.5}), (2, {"loss": 0.5}), (4, {"loss": 0.5})]
    assert run.logged[3] == (4, {"sample_2": ("image", str(tmp_path / "s.png"))}) and run.finished
    assert "step 3 (the network is down)" in caplog.text


def test_wandb_that_is_missing_or_does_not_start_is_refused_with_the_fix(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r'output\.wandb is "pusa", which needs wandb'):
        WeightsAndBiases("pusa", "id", "run", tmp_path, {})

    def refuse(**_):
        raise RuntimeError("api_key not configured")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=refuse))
    with pytest.raises(ValueError, match=r"api_key not configured.*wandb login.*WANDB_MODE=offline"):
        WeightsAndBiases("pusa", "id", "run", tmp_path, {})


def test_wandb_itself_takes_rows_and_pictures(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    Image.new("RGB", (8, 8)).save(tmp_path / "s.png")
    board = WeightsAndBiases("pusa", "id1", "run", tmp_path, {"train": {"lr": 1.0}})
    board.add(1, {"loss": 0.5})
    board.add_sample(1, "sample", tmp_path / "s.png")
    board.close()
    (written,) = (tmp_path / "wandb").rglob("*.wandb")
    wait_for(lambda: b"sample" in written.read_bytes())  # by a process of its own
    assert b"loss" in written.read_bytes() and list((tmp_path / "wandb").rglob("*.png"))
