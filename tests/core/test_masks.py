"""Parts of given frames that are made anew."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from demo.inputs import write_inputs
from pusa_core import Given, load_vae
from pusa_core.cli.main import main
from pusa_core.cli.output import VideoOutput
from pusa_core.media.video import read_frames
from pusa_core.sampling.masks import Inset, mask_levels, read_mask


def test_a_token_is_as_its_whitest_pixel():
    picture = torch.zeros(1, 32, 48)
    picture[0, 15, 16], picture[0, 31, :16] = 1.0, 0.4
    levels = mask_levels(picture, 9)
    assert levels.shape == (3, 2, 3)
    assert torch.equal(levels, torch.tensor([[0.0, 1.0, 0.0], [0.4, 0.0, 0.0]]).expand(3, -1, -1))


def test_greys_become_sixteen_levels_and_almost_black_is_black():
    levels = mask_levels(torch.linspace(0, 1, 256).repeat_interleave(16).view(1, 1, -1).expand(-1, 16, -1), 1)
    assert len(levels.unique()) == 16 and levels[0, 0, 8] == 0.0 and levels[0, 0, -1] == 1.0


def test_a_latent_frame_of_a_mask_clip_is_as_its_whitest_picture():
    clip = torch.zeros(9, 16, 16)
    clip[4], clip[5] = 1.0, 0.6
    assert mask_levels(clip, 9).flatten().tolist() == pytest.approx([0.0, 1.0, 0.6])
    with pytest.raises(ValueError, match="the mask has 8 pictures; give one, or one for each of the 9 frames"):
        mask_levels(clip[:8], 9)


def test_a_mask_is_scaled_and_cropped_as_keyframes_are(tmp_path):
    pixels = np.zeros((64, 256), np.uint8)
    pixels[:, 96:128] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", (64, 64), 5)[0].tolist() == [[1.0, 1.0, 0.0, 0.0]] * 4


def test_black_keeps_the_level_of_a_frame_and_white_is_one():
    given = Given(torch.zeros(1, 16, 3, 2, 6), torch.tensor([0.0, 0.4, 1.0]))
    levels = given.masked(torch.tensor([[0.0, 0.5, 1.0]]).expand(3, 1, -1)).noise_levels
    assert levels.squeeze(1).flatten().tolist() == pytest.approx([0, 0.5, 1, 0.4, 0.7, 1, 1, 1, 1])
    again = Given(given.latents, levels).masked(torch.tensor([[0.0, 1.0, 0.5]]).expand(3, 1, -1), level=0.3)
    assert again.noise_levels[0].flatten().tolist() == pytest.approx([0, 0.3, 0.65])
    assert (again.noise_levels[:, 0, 1] == torch.tensor(0.3)).all()  # white is exactly that level


def test_a_clip_is_placed_in_a_larger_frame():
    inset = Inset.parse("32x16", (80, 48))
    assert inset == Inset(32, 16, 16, 16) and Inset.parse("32x16+48+0", (80, 48)) == Inset(32, 16, 48, 0)
    frames = torch.rand(2, 16, 32, 3)
    padded = inset.pad(frames, (80, 48))
    assert torch.equal(padded[:, 16:32, 16:48], frames)
    assert torch.equal(padded[:, 0, 0], frames[:, 0, 0]) and torch.equal(padded[:, 47, 20], frames[:, 15, 4])
    kept = inset.levels((80, 48), 5) == 0
    assert kept.shape == (2, 3, 5) and kept[:, 1, 1:3].all() and kept.sum() == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("80x48", "fills a frame of 80 x 48 or is not within it"),
        ("32x16+64+0", "not within it; give a larger --size"),
        ("96x48", "not within it"),
        ("0x16", "not within it"),
        ("40x16", r"not divisible by 16 \(40\)"),
        ("32x16+8+0", r"not divisible by 16 \(8\)"),
        ("wide", '"wide" is not WIDTHxHEIGHT'),
    ],
)
def test_places_that_leave_nothing_to_make_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Inset.parse(text, (80, 48))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    write_inputs(folder, 3)
    return folder


def generate(monkeypatch, folder, *arguments):
    """The latents of which the command would write a video."""
    made = []
    monkeypatch.chdir(folder)
    monkeypatch.setattr(VideoOutput, "write", lambda self, latents, vae, about: made.append(latents))
    main(["generate", *arguments, "--prompt", "a red square", "--steps", "1", "--cfg", "1", "--out", "out.mp4"])
    return made[0]


def test_a_region_is_made_anew_and_the_rest_keeps_its_bits(monkeypatch, folder):
    latents = generate(monkeypatch, folder, "--task", "region", "clip.mp4", "--mask", "mask.png")
    given = load_vae("demo").encode(read_frames(folder / "clip.mp4"))
    assert torch.equal(latents[..., 4:], given[..., 4:])
    assert not (latents[..., :4] == given[..., :4]).any(dim=1).any()


def test_a_clip_is_outpainted_and_keeps_its_bits(monkeypatch, folder):
    latents = generate(monkeypatch, folder, "--task", "outpaint", "clip.mp4", "--inset", "32x48+16+0")
    clip = Inset(32, 48, 16, 0).pad(read_frames(folder / "clip.mp4", (32, 48)), (64, 64))
    given = load_vae("demo").encode(clip)
    assert torch.equal(latents[..., :6, 2:6], given[..., :6, 2:6])
    assert not (latents[..., 6:, :] == given[..., 6:, :]).any(dim=1).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "region", "clip.mp4"], "task region needs --mask PICTURE"),
        (["--mask", "mask.png"], "--mask says what of a given clip is made anew"),
        (["--task", "image_to_video", "start.png", "--inset", "32x32"], "--inset is the place of the clip"),
        (["--task", "outpaint", "clip.mp4"], "fills a frame of 64 x 64"),
        (["--task", "outpaint"], "task outpaint takes 1 files"),
        (["--task", "region", "clip.mp4", "--mask", "gone.png"], "no such file: gone.png"),
    ],
)
def test_what_cannot_be_made_is_said_before_anything_is_computed(monkeypatch, folder, arguments, message):
    with pytest.raises(SystemExit, match=re.escape(message)):
        generate(monkeypatch, folder, *arguments)
