"""Captions in any encoding and metadata of any form: read as they are meant, or refused with file and line."""

import pytest

from pusa_core.training.clips import find_clips

CAPTION = "ein rotes Mädchen"


@pytest.fixture
def skipped():
    return {}


@pytest.fixture
def find(tmp_path, skipped):
    (tmp_path / "a.mp4").touch()
    return lambda **options: [clip.caption for clip in find_clips(tmp_path, skipped.__setitem__, **options)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_caption_is_read_by_its_byte_order_mark(tmp_path, find, skipped, encoding):
    (tmp_path / "a.txt").write_bytes(CAPTION.encode(encoding))
    assert find() == [CAPTION] and not skipped


@pytest.mark.parametrize("mark, encoding", [(b"\xfe\xff", "utf-16-be"), (b"\0\0\xfe\xff", "utf-32-be")])
def test_a_big_endian_caption_is_read_by_its_byte_order_mark(tmp_path, find, mark, encoding):
    (tmp_path / "a.txt").write_bytes(mark + CAPTION.encode(encoding))
    assert find() == [CAPTION]


@pytest.mark.parametrize("content", [CAPTION.encode("cp1252"), CAPTION.encode("utf-16-le"), b"\xff\xfea"])
def test_a_clip_whose_caption_has_another_encoding_is_skipped(tmp_path, find, skipped, content):
    (tmp_path / "a.txt").write_bytes(content)
    assert find() == [] and skipped["a.mp4"].startswith("caption is not UTF-8")
    assert skipped["a.mp4"].endswith("save it as UTF-8")


@pytest.mark.parametrize(
    "name, content",
    [
        ("metadata.csv", "file_name,caption\na.mp4,a cat\n"),
        ("metadata.csv", "video,prompt\na.mp4,a cat\n"),
        ("metadata.csv", "video,file_name,prompt,text\nother.mp4,a.mp4,a dog,a cat\n"),
        ("metadata.csv", "video,file_name,prompt,text\na.mp4,,a cat,\n"),
        ("metadata.jsonl", '{"video_path": "a.mp4", "caption": "a cat"}'),
    ],
)
def test_metadata_of_other_trainers_is_read(tmp_path, find, skipped, name, content):
    (tmp_path / name).write_text(content)
    assert find() == ["a cat"] and not skipped


def test_what_is_wrong_with_metadata_is_told_by_its_own_columns(tmp_path, find):
    (tmp_path / "metadata.jsonl").write_text('{"video_path": "../a.mp4", "caption": "a cat"}')
    with pytest.raises(ValueError, match=r"line 1: video_path .* leads out of the folder"):
        find()
    (tmp_path / "metadata.jsonl").write_text('{"video_path": "a.mp4", "caption": 5}')
    with pytest.raises(ValueError, match="line 1: caption is a number, 5"):
        find()


def test_metadata_in_utf_16_is_read(tmp_path, find):
    (tmp_path / "metadata.csv").write_text(f"file_name,text\na.mp4,{CAPTION}\n", encoding="utf-16")
    assert find() == [CAPTION]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("metadata.csv", "file_name,text\na.mp4,a red square, moving right\n", r"line 2 has more .*'.*moving right'"),
        ("metadata.csv", 'file_name,text\na.mp4,"x"\nb.mp4,y,z\n', "line 3 has more values .* double quotes"),
        ("metadata.csv", 'file_name,text\na.mp4,"a red square\nb.mp4,y\n', r"line \d: unexpected end of data"),
        ("metadata.csv", "file_name,text\na.mp4,\0\1\2\n", "is not UTF-8 .*NUL"),
        ("metadata.jsonl", '{"file_name": "a.mp4", "text": ["a", "b"]}', r"line 1: text is a list, \['a', 'b'\]"),
        ("metadata.jsonl", '\n{"file_name": "a.mp4", "text": 5}', "line 2: text is a number, 5; it must be a text"),
        ("metadata.jsonl", '{"file_name": ["a.mp4"], "text": "x"}', "line 1: file_name is a list"),
        ("metadata.jsonl", '[{"file_name": "a.mp4", "text": "x"}]', "line 1 is a list, not a JSON object such as"),
        ("metadata.jsonl", '[["file_name", "a.mp4"]]', "line 1 is a list"),
        ("metadata.jsonl", '"text"', "line 1 is a text, not a JSON object"),
        ("metadata.jsonl", '{"file_name": "a.mp4", "text": "\\ud800"}', "line 1: text holds half of a character"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused_with_file_and_line(tmp_path, find, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{name} ?.*{message}"):
        find()


def test_binary_metadata_is_refused_by_its_name(tmp_path, find):
    (tmp_path / "metadata.csv").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=r"metadata\.csv is not UTF-8"):
        find()


def test_a_clip_without_text_in_the_metadata_is_skipped(tmp_path, find, skipped):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.mp4", "text": null}')
    assert find() == [] and "no caption" in skipped["a.mp4"]


@pytest.mark.parametrize("name", ["../x.mp4", "sub/../../x.mp4", "/x.mp4", "C:\\x.mp4", "..\\x.mp4", "C:x.mp4"])
def test_metadata_that_leads_out_of_the_folder_is_refused_unless_allowed(tmp_path, skipped, name):
    folder = tmp_path / "clips"
    folder.mkdir()
    (tmp_path / "x.mp4").touch()
    (folder / "metadata.csv").write_text(f"file_name,text\n{name},a cat\n")
    with pytest.raises(ValueError, match=r"metadata\.csv: line 2: file_name .* leads out of the folder of clips"):
        find_clips(folder, skipped.__setitem__)
    clips = find_clips(folder, skipped.__setitem__, allow_outside=True)
    if name == "../x.mp4":
        assert [clip.path.resolve() for clip in clips] == [(tmp_path / "x.mp4").resolve()]


def test_a_name_with_dots_inside_of_the_folder_is_read(tmp_path, find):
    (tmp_path / "metadata.csv").write_text("file_name,text\nsub/../a.mp4,a cat\n./a.mp4,again\n")
    (tmp_path / "sub").mkdir()
    assert find() == ["again", "a cat"]
