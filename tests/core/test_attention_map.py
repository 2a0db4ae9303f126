"""Attention between latent frames, against the whole matrix of attention weights."""

import csv
import re

import numpy as np
import pytest
import torch
from PIL import Image

from pusa_core import flow_sigmas, sigma_table, start_latents
from pusa_core.analysis import AttentionRecorder, RecordedModel, frame_attention, pooled_frame_attention
from pusa_core.cli.main import main
from pusa_core.media.demo_text import encode_text
from pusa_core.model.rope import apply_rope, rope_table
from pusa_core.sampling.keyframes import Given
from pusa_core.sampling.pipeline import Settings, generate_latents
from tests.conftest import max_error

FRAMES, SIZE = 5, 4  # latent frames, latent pixels: 4 tokens a frame


def whole_matrix(q, k, frames):
    """The definition, with all weights at once: ``q, k [B, N, heads, d]`` -> ``[B, F, F]`` in fp64."""
    scores = torch.einsum("bihd,bjhd->bhij", q.double(), k.double()) / q.shape[-1] ** 0.5
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    weights = weights / weights.sum(-1, keepdim=True)
    size = q.shape[1] // frames
    maps = torch.zeros(len(q), frames, frames, dtype=torch.float64)
    for f in range(frames):
        for g in range(frames):
            part = weights[:, :, f * size : (f + 1) * size, g * size : (g + 1) * size]
            maps[:, f, g] = part.sum(-1).mean((1, 2))
    return maps


@pytest.mark.parametrize("chunk", [1, 100, 1 << 25])
def test_map_equals_the_whole_matrix_in_chunks_of_any_size(chunk):
    torch.manual_seed(0)
    q, k = torch.randn(2, 35, 3, 8) * 2, torch.randn(2, 35, 3, 8) * 2
    maps = frame_attention(q, k, 5, chunk)
    assert max_error(maps.double(), whole_matrix(q, k, 5)) < 1e-6
    assert max_error(maps.sum(-1), torch.ones(2, 5)) < 1e-6


def test_averaging_before_the_softmax_is_something_else():
    torch.manual_seed(0)
    q = torch.randn(1, 30, 2, 16) * 2
    k = torch.cat([q[:, :6] * -1, q[:, 6:]], dim=1)
    exact, pooled = frame_attention(q, k, 5), pooled_frame_attention(q, k, 5)
    assert max_error(pooled.sum(-1), torch.ones(1, 5)) < 1e-6
    assert max_error(exact, pooled) > 0.1
    same = torch.randn(1, 5, 2, 16).repeat_interleave(6, dim=1)  # tokens of a frame alike: no difference is left
    assert max_error(frame_attention(same, same, 5), pooled_frame_attention(same, same, 5)) < 1e-6


def test_tokens_that_do_not_fit_the_frames_are_refused():
    with pytest.raises(ValueError, match="35 tokens cannot be divided among 4"):
        frame_attention(torch.zeros(1, 35, 1, 2), torch.zeros(1, 35, 1, 2), 4)


def given_first_frame():
    torch.manual_seed(1)
    return Given.empty(torch.zeros(1, 16, 1, SIZE, SIZE), FRAMES).place(torch.randn(1, 16, 1, SIZE, SIZE), 0)


def settings(steps=3, cfg=3.0):
    return Settings(16, 16, 4 * FRAMES - 3, steps, cfg)


def recorded_run(model, steps, blocks, cfg=3.0, **kwargs):
    recorder = AttentionRecorder(steps, blocks, total_steps=3, total_blocks=model.config.num_layers, **kwargs)
    recorded = RecordedModel(model, recorder, encode_text("a red square"))
    options = settings(cfg=cfg)
    latents = generate_latents(
        recorded,
        given_first_frame(),
        encode_text("a red square"),
        encode_text(""),
        options,
        callback=recorder.after_step,
    )
    return latents, recorder.result()


def test_maps_of_a_sampling_run_equal_those_of_its_queries_and_keys(demo_model):
    """Queries and keys are taken from the layers themselves, with PyTorch's hooks."""
    model = demo_model().double()
    latents, maps = recorded_run(model, [0, 2], [-1, 1])
    assert maps.steps == (0, 2) and maps.blocks == (1, 5)

    seen = []  # copies: the rotation that follows writes over queries and keys
    for block in (1, 5):
        for layer in (model.blocks[block].self_attn.norm_q, model.blocks[block].self_attn.norm_k):
            layer.register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    plain = generate_latents(model, given_first_frame(), encode_text("a red square"), encode_text(""), settings())
    assert torch.equal(plain, latents)  # recording changes nothing
    calls = [seen[i : i + 4] for i in range(0, len(seen), 4)]  # prompt and negative prompt for each step
    assert len(calls) == 6
    rope = rope_table(128, (FRAMES, SIZE // 2, SIZE // 2), torch.device("cpu"))
    for place, step in enumerate(maps.steps):
        tensors = [apply_rope(x.unflatten(-1, (2, 128)), rope) for x in calls[2 * step]]
        for column in range(2):
            expected = whole_matrix(*tensors[2 * column : 2 * column + 2], FRAMES)[0]
            assert max_error(maps.maps[place, column].double(), expected) < 1e-6
    assert max_error(maps.maps[0], maps.maps[1]) > 1e-3  # the steps are not alike, or nothing was shown


def test_without_guidance_every_call_is_recorded(demo_model):
    model = demo_model()
    _, maps = recorded_run(model, [1], [2], cfg=1.0)
    assert max_error(maps.maps.sum(-1), torch.ones(1, 1, FRAMES)) < 1e-5


def test_the_shares_that_are_reported(demo_model):
    _, maps = recorded_run(demo_model(), [0], [0, 3])
    grid = maps.maps[0, 1]
    assert maps.to_first[0, 1] == pytest.approx(grid[1:, 0].mean().item())
    assert maps.to_self[0, 1] == pytest.approx(grid.trace().item() / FRAMES)
    assert f"step 0, block 3: {maps.to_first[0, 1]:.1%} to frame 0" in maps.describe()


def test_a_batch_is_averaged(demo_model):
    model = demo_model()
    table = sigma_table(flow_sigmas(2), torch.tensor([0.0, 1, 1]))
    latents = start_latents(torch.randn(2, 16, 3, 4, 4), torch.randn(2, 16, 3, 4, 4), table[0])
    context = encode_text("a blue diamond")

    def maps_of(part):
        recorder = AttentionRecorder([0], [4], total_steps=1, total_blocks=6)
        batch = len(part)
        recorded = RecordedModel(model, recorder, context)
        recorded(part, (1000 * table[0]).expand(batch, -1), context.expand(batch, -1, -1))
        return recorder.result().maps

    assert max_error(maps_of(latents), (maps_of(latents[:1]) + maps_of(latents[1:])) / 2) < 1e-5


@pytest.mark.parametrize(
    ("steps", "blocks", "message"),
    [([3], [0], "step 3 does not exist; there are 3"), ([0], [-7], "block -7 does not exist"), ([], [0], "no step")],
)
def test_steps_and_blocks_that_do_not_exist_are_refused(steps, blocks, message):
    with pytest.raises(ValueError, match=message):
        AttentionRecorder(steps, blocks, total_steps=3, total_blocks=6)


def test_a_step_that_never_ran_is_said():
    with pytest.raises(ValueError, match="step 1, block 0 was never computed"):
        AttentionRecorder([1], [0], total_steps=3, total_blocks=6).result()


def run(out, *arguments):
    options = [
        "--prompt",
        "square",
        "--size",
        "16x16",
        "--frames",
        "9",
        "--steps",
        "2",
        "--cfg",
        "1",
        "--record-steps",
        "0,1",
        "--blocks",
        "-1,0",
    ]
    main(["attention-map", "--out", str(out), *options, *arguments])


def test_command_writes_picture_and_numbers(tmp_path):
    pytest.importorskip("diffusers")
    run(tmp_path / "map.png")
    stored = np.load(tmp_path / "map.npz")
    assert stored["maps"].shape == (2, 2, 3, 3) and stored["blocks"].tolist() == [0, 5]
    assert np.abs(stored["maps"].sum(-1) - 1).max() < 1e-5
    with (tmp_path / "map.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 3 * 3
    row = next(r for r in rows if (r["step"], r["block"], r["frame"], r["attends_to"]) == ("1", "5", "2", "0"))
    assert float(row["share"]) == pytest.approx(float(stored["maps"][1, 1, 2, 0]), rel=1e-6)
    assert Image.open(tmp_path / "map.png").size[0] > 400
    with pytest.raises(SystemExit, match=r"map\.png exists"):
        run(tmp_path / "map.png")


@pytest.mark.parametrize("extra", [["--offload"], ["--pooled"]])
def test_only_the_way_of_measuring_changes_the_numbers(tmp_path, extra):
    pytest.importorskip("diffusers")
    maps = []
    for name, options in (("plain", []), ("other", extra)):
        run(tmp_path / f"{name}.png", *options)
        maps.append(np.load(tmp_path / f"{name}.npz")["maps"])
    assert np.array_equal(*maps) == (extra == ["--offload"])


def test_several_processes_are_refused(tmp_path, monkeypatch):
    """Each of them would write the same files."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="attention-map works in one process; start it without torchrun"):
        run(tmp_path / "map.png")


def test_picture_is_brighter_where_more_attention_goes(tmp_path):
    from pusa_core.analysis.pictures import colors_of

    colors = colors_of(np.linspace(0, 0.4, 50), 0.4).astype(float) @ (0.299, 0.587, 0.114)
    assert (np.diff(colors) > 0).all()


@pytest.mark.parametrize(
    ("out", "arguments", "message"),
    [
        ("map.jpg", [], "must end in .png"),
        ("map.png", ["--record-steps", "5"], "step 5 does not exist"),
        ("map.png", ["--blocks", "6"], "block 6 does not exist"),
    ],
)
def test_command_refuses_bad_input(tmp_path, out, arguments, message):
    pytest.importorskip("diffusers")
    with pytest.raises(SystemExit, match=re.escape(message)):
        run(tmp_path / out, *arguments)
