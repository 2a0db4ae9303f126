"""Damaged and hostile files: an error that names the file, and nothing else.

How to try more cases, and the same ones again: :mod:`tests.support.fuzz`.
"""

import io
import json
import os
import pickle
import struct
import sys
import time
import zipfile
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from benchmarks.memory import reset_peak, resident
from pusa_core import WanConfig, load_checkpoint, load_lora
from pusa_core.weights.checkpoints import expected_shapes
from pusa_core.weights.files import shard_paths
from tests.support.fuzz import fuzz

CASES = 500  # for each test below that is given data
ALLOWED_GROWTH = 100 << 20  # bytes of memory for one file, all of which are small
ON_LINUX = sys.platform.startswith("linux")
ALLOWED_SECONDS = 20  # of this process's own work on one file, which takes milliseconds
CONFIG = WanConfig(dim=16, ffn_dim=16, num_heads=1, num_layers=1, text_dim=8, freq_dim=8)


def tiny_checkpoint():
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator).half() for name, shape in expected_shapes(CONFIG)}


def tiny_lora():
    return {
        "diffusion_model.blocks.0.ffn.0.lora_A.weight": torch.ones(2, 16),
        "diffusion_model.blocks.0.ffn.0.lora_B.weight": torch.ones(16, 2),
        "diffusion_model.blocks.0.ffn.0.alpha": torch.tensor(2.0),
        "diffusion_model.blocks.0.norm3.diff_b": torch.ones(16),
    }


def pickled(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


LOADERS = {"checkpoint": (load_checkpoint, tiny_checkpoint), "lora": (load_lora, tiny_lora)}
BYTES = {
    (kind, suffix): write(tensors())
    for kind, (_, tensors) in LOADERS.items()
    for suffix, write in ((".safetensors", save), (".pt", pickled))
}
kinds = st.sampled_from(sorted(LOADERS))


@contextmanager
def bounded():
    """Bounds on memory and on this process's own work for one file."""
    if ON_LINUX:
        reset_peak()
    started, before = time.process_time(), peak()
    try:
        yield
    finally:
        assert time.process_time() - started < ALLOWED_SECONDS
        assert peak() - before < ALLOWED_GROWTH


def peak():
    """The most memory since the last ``reset_peak``, in bytes; 0 where the system does not say."""
    return resident("VmHWM") if ON_LINUX else 0


def attempt(load, path):
    """Load a file; what was loaded, or None when it was refused with an error that names it."""
    try:
        with bounded():
            return load(path)
    except (ValueError, FileNotFoundError) as error:
        assert path.name in str(error), f"{error!r} does not name the file"
        return None


@fuzz(CASES)
@given(kind=kinds, suffix=st.sampled_from([".safetensors", ".pt"]), data=st.data())
def test_damaged_bytes(tmp_path, kind, suffix, data):
    content = bytearray(BYTES[kind, suffix])
    for _ in range(data.draw(st.integers(0, 8))):  # mostly in the header, where it matters
        end = data.draw(st.sampled_from([8, min(4000, len(content)), len(content)]))
        content[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content + data.draw(st.binary(max_size=16)))
    attempt(LOADERS[kind][0], path)


def test_an_archive_whose_parts_end_too_early(tmp_path):
    content = bytearray(BYTES["checkpoint", ".pt"])
    content[29] = 91  # of the length of the first part's header
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.pt"):
        load_checkpoint(path)


numbers = st.one_of(st.integers(-2, 70), st.integers(-(2**70), 2**70))
dtypes = st.sampled_from(["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I8", "U8", "BOOL", "F4", "X", ""])
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
changes = {
    "dtype": st.one_of(dtypes, json_values),
    "shape": st.one_of(st.lists(numbers, max_size=5), json_values),
    "data_offsets": st.one_of(st.lists(numbers, min_size=2, max_size=2), json_values),
}


@fuzz(CASES)
@given(kind=kinds, data=st.data())
def test_absurd_headers(tmp_path, kind, data):
    content = BYTES[kind, ".safetensors"]
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(header)))
        what = data.draw(st.sampled_from([*changes, "all", "name", "metadata"]))
        if what in changes and isinstance(header[name], dict):
            header[name] = {**header[name], what: data.draw(changes[what])}
        elif what == "all":
            header[name] = data.draw(json_values)
        elif what == "name":
            header[data.draw(st.text(max_size=40))] = header.pop(name)
        else:
            header["__metadata__"] = data.draw(
                st.one_of(json_values, st.fixed_dictionaries({"_quantization_metadata": json_values.map(json.dumps)}))
            )
    text = json.dumps(header).encode()
    claimed = data.draw(st.one_of(st.just(len(text)), st.integers(0, 2**64 - 1)))
    path = tmp_path / "header.safetensors"
    path.write_bytes(struct.pack("<Q", claimed) + text + content[8 + length :])
    attempt(LOADERS[kind][0], path)


WORDS = "weight bias alpha diff diff_b lora_A lora_B default lora_up lora_down scale_weight weight_scale input_scale"
WORDS += " comfy_quant scaled_fp8 blocks 0 1 99 self_attn attn1 q to_q ffn net proj head modulation scale_shift_table"
WORDS += " norm2 norm3 diffusion_model model transformer lora_unet_blocks_0_ffn_0 lora_unet__head_head weight_scale_2"
names = st.lists(st.sampled_from(WORDS.split()), min_size=1, max_size=6).map(".".join)
tensors = st.builds(
    lambda shape, dtype, value: torch.full(shape, value).to(dtype),
    st.one_of(st.lists(st.integers(0, 5), max_size=5), st.sampled_from([[16, 16], [16], [2, 16], [1, 6, 16]])),
    st.sampled_from([torch.float32, torch.float16, torch.float8_e4m3fn, torch.int64, torch.uint8, torch.bool]),
    st.sampled_from([0.0, 1.0, 1e30, float("inf"), float("nan")]),
)


@fuzz(CASES)
@given(
    kind=kinds,
    suffix=st.sampled_from([".safetensors", ".pt"]),
    extra=st.dictionaries(names, tensors, max_size=3),
    changed=st.dictionaries(st.integers(0, 60), st.one_of(st.none(), tensors), max_size=3),
)
def test_wrong_tensors(tmp_path, kind, suffix, extra, changed):
    load, make = LOADERS[kind]
    content = make()
    for index, value in changed.items():
        content[sorted(content)[index % len(content)]] = value
    content = {name: value for name, value in {**content, **extra}.items() if value is not None}
    path = tmp_path / f"wrong{suffix}"
    path.write_bytes((save if suffix == ".safetensors" else pickled)(content))
    loaded = attempt(load, path)
    if kind == "checkpoint" and loaded is not None:
        assert {name: tuple(value.shape) for name, value in loaded.items()} == dict(
            expected_shapes(WanConfig.from_state_dict(loaded))
        )
        assert all(value.isfinite().all() for value in loaded.values())


def one_shard(name):
    return json.dumps({"weight_map": {"a": f"{name}.safetensors"}})


@fuzz(CASES)
@given(text=st.one_of(json_values.map(json.dumps), st.text(max_size=40), names.map(one_shard)))
def test_absurd_indexes(tmp_path, text):
    path = tmp_path / "x.safetensors.index.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    assert attempt(load_checkpoint, path) is None


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "what",
    [Calls(os.system, "touch ran"), Calls(eval, "open('ran', 'w')"), Calls(bytearray, 10**12)],
    ids=["system", "eval", "bytearray"],
)
@pytest.mark.parametrize("load", [load_checkpoint, load_lora])
def test_code_is_never_run(tmp_path, monkeypatch, load, what):
    monkeypatch.chdir(tmp_path)
    for name, content in (("new.pt", pickled({"head.modulation": what})), ("old.pt", pickle.dumps({"a": what}))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    bomb = zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED, compresslevel=9)
    with bomb, bomb.open("bomb/data.pkl", "w", force_zip64=True) as entry:
        for _ in range(400):
            entry.write(bytes(1 << 20))
    assert (tmp_path / "bomb.pt").stat().st_size < 1 << 20
    with bounded(), pytest.raises(ValueError, match=r"bomb\.pt cannot be read .*compressed data"):
        load_checkpoint(tmp_path / "bomb.pt")


def test_a_tensor_larger_than_its_file_is_refused(tmp_path):
    torch.save({"head.modulation": torch.zeros(1).expand(1 << 20, 1 << 20)}, tmp_path / "huge.pt")
    with bounded(), pytest.raises(ValueError, match=r"huge\.pt .*larger than the file"):
        load_checkpoint(tmp_path / "huge.pt")


def test_a_huge_header_is_not_parsed(tmp_path):
    with (tmp_path / "x.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 90 << 20) + b'{"a":"')
        file.truncate(100 << 20)
    with bounded(), pytest.raises(ValueError, match=r"x\.safetensors .*header should be 94371840 bytes"):
        load_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="has neither")
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "loop"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "x.safetensors"
    make = {"device": lambda: path.symlink_to("/dev/zero"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}
    make.get(kind, lambda: path.symlink_to(path))()
    with pytest.raises((ValueError, OSError), match=r"x\.safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["../secret.safetensors", "link.safetensors", "{folder}/secret.safetensors"])
def test_an_index_cannot_name_files_elsewhere(tmp_path, name):
    models = tmp_path / "models"
    models.mkdir()
    (tmp_path / "secret.safetensors").write_bytes(BYTES["checkpoint", ".safetensors"])
    (models / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    index = models / "x.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name.format(folder=tmp_path)}}))
    with pytest.raises(ValueError, match=r"x\.index\.json names .* outside of its folder"):
        load_checkpoint(index)


def test_a_download_cache_of_links_is_followed(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "1").write_bytes(BYTES["checkpoint", ".safetensors"])
    (blobs / "2").write_text(json.dumps({"weight_map": {"a": "x.safetensors"}}))
    (snapshot / "x.safetensors").symlink_to(blobs / "1")
    (snapshot / "x.index.json").symlink_to(blobs / "2")
    assert shard_paths(snapshot / "x.index.json") == [snapshot / "x.safetensors"]
    assert load_checkpoint(snapshot / "x.index.json").keys() == tiny_checkpoint().keys()
