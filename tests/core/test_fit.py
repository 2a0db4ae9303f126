"""Pictures of any size, in a video of another."""

import pytest
import torch
from PIL import Image, ImageOps

from pusa_core.media.pictures import to_rgb
from pusa_core.sampling.fit import fit_pictures, whole_size

SIZES = [(100, 60), (30, 90), (64, 48), (65, 49), (640, 480), (1, 1), (5, 300)]


def gradient(width: int, height: int, frames: int = 1) -> torch.Tensor:
    """Red grows to the right, green downwards, blue with time."""
    red = torch.linspace(0, 1, width).expand(frames, height, width)
    green = torch.linspace(0, 1, height)[:, None].expand(frames, height, width)
    return torch.stack([red, green, torch.linspace(0.2, 1, frames)[:, None, None].expand_as(red)], -1)


@pytest.mark.parametrize("size", SIZES)
def test_cropping_is_what_pillow_fits(size: tuple[int, int]) -> None:
    pictures = gradient(*size)
    fitted = fit_pictures(pictures, (64, 48))
    image = to_rgb(Image.fromarray((pictures[0] * 255).round().byte().numpy()))
    expected = (
        torch.tensor(list(ImageOps.fit(image, (64, 48), Image.Resampling.BICUBIC).tobytes())).view(48, 64, 3) / 255
    )
    assert fitted.shape == (1, 48, 64, 3)
    assert (fitted[0] - expected).abs().mean() < 0.02  # Pillow crops in fractions of a pixel, before it scales


@pytest.mark.parametrize("size", SIZES)
def test_padding_shows_the_whole_picture_between_black_bars(size: tuple[int, int]) -> None:
    fitted = fit_pictures(torch.ones(2, size[1], size[0], 3), (64, 48), "pad")
    assert fitted.shape == (2, 48, 64, 3)
    inside = (fitted[0, ..., 0] > 0.5).nonzero()
    height, width = (inside.amax(0) - inside.amin(0) + 1).tolist()
    assert (width == 64 or height == 48) and inside.shape[0] == width * height
    scale = min(64 / size[0], 48 / size[1])
    assert (width, height) == (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    left, top = inside.amin(0).flip(0).tolist()
    assert abs((64 - width) - 2 * left) <= 1 and abs((48 - height) - 2 * top) <= 1


def test_pictures_that_fit_are_not_touched() -> None:
    pictures = gradient(64, 48, 3)
    for how in ("crop", "pad", "refuse"):
        assert fit_pictures(pictures, (64, 48), how) is pictures


def test_each_frame_of_a_clip_is_fitted_by_itself() -> None:
    clip = gradient(100, 60, 5)
    together = fit_pictures(clip, (64, 48))
    assert torch.equal(together, torch.cat([fit_pictures(frame, (64, 48)) for frame in clip.split(1)]))
    assert together.amin() >= 0 and together.amax() <= 1


@pytest.mark.parametrize(
    ("size", "how", "message"),
    [
        ((64, 48), "refuse", r"image is 100 x 60 and the video 64 x 48; resize"),
        ((64, 40), "crop", "divisible by 16"),
        ((64, 48), "stretch", 'resize is "stretch"; choose one of crop, pad, refuse'),
    ],
)
def test_what_does_not_fit_is_refused(size: tuple[int, int], how: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_pictures(gradient(100, 60), size, how)


@pytest.mark.parametrize(
    ("picture", "size"),
    [((1920, 1080), (1920, 1072)), ((832, 480), (832, 480)), ((9, 31), (16, 16))],
)
def test_without_a_video_the_size_is_the_picture_s_own(picture: tuple[int, int], size: tuple[int, int]) -> None:
    assert whole_size(*picture) == size
