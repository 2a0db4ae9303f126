"""The embedded demo model: exactness on trained weights, and that it does what it is for."""

import copy
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from benchmarks.demo_model.judge import compare, grown, halo, look
from benchmarks.demo_model.measure import captioned_size_error
from demo.clips import COLORS, DIRECTIONS, FRAMES, RADII, SHAPES, SIZE, SPEEDS, draw_scene, window_times
from demo.training.lora_difference import DOWN, UP, difference
from demo.training.train_dit import revive
from pusa_core import Given, euler_sample, flow_sigmas, lead_in, load_lora, merge_lora, sigma_table
from pusa_core.media.demo_text import encode_text, word_vector
from pusa_core.sampling.pipeline import Keyframe, Settings, encode_keyframes, generate_latents
from pusa_core.weights.demo_files import DIT, LORA, VAE

SCENE = draw_scene(3)


@pytest.fixture(scope="module")
def vae():
    pytest.importorskip("diffusers")
    from pusa_core.media.vae import WanVae

    return WanVae(VAE)


def test_equal_timesteps_give_the_bits_of_the_scalar(demo_model):
    model, latents = demo_model(), torch.randn(2, 16, 21, 8, 8)
    context = encode_text(SCENE.caption).expand(2, -1, -1)
    with torch.no_grad():
        scalar = model(latents, torch.tensor([700.0, 20.0]), context)
        vector = model(latents, torch.tensor([[700.0], [20.0]]).repeat(1, 21), context)
    assert torch.equal(scalar, vector)


def test_the_network_tells_all_words_of_the_captions_apart(demo_model):
    embedding = demo_model().text_embedding
    for words in (SHAPES, COLORS, DIRECTIONS, SPEEDS, RADII):
        with torch.no_grad():
            found = [torch.nn.functional.normalize(embedding(word_vector(word)), dim=0) for word in words]
        assert all(one @ other < 0.99 for one, other in combinations(found, 2)), words


def test_a_lost_word_is_revived_and_the_others_stay(demo_model):
    model = demo_model()
    first, begun = model.text_embedding[0], model.text_embedding[:2]
    vector, other = word_vector("up"), word_vector("red")
    with torch.no_grad():
        first.weight -= torch.outer(first(vector) + 10, vector) / vector.square().sum()
        before = begun(other)
        assert begun(vector).abs().max() < 1e-3
        revive(model, ["up"], COLORS)
        assert begun(vector).norm() == pytest.approx(begun(other).norm().item(), rel=0.5)
        assert begun(other) == pytest.approx(before, abs=0.1 * before.max().item())


def test_given_frames_come_out_with_their_bits(demo_model):
    model, levels = demo_model(), torch.ones(21)
    levels[0] = levels[20] = 0
    latents, context = torch.randn(1, 16, 21, 8, 8), encode_text(SCENE.caption)
    with torch.no_grad():
        out = euler_sample(
            lambda x, t: model(x, t.expand(1, -1), context), latents, sigma_table(flow_sigmas(3), levels)
        )
    assert torch.equal(out[:, :, [0, 20]], latents[:, :, [0, 20]])
    assert not torch.equal(out[:, :, 1], latents[:, :, 1])


def test_files_fit_the_repository():
    assert sum(path.stat().st_size for path in (DIT, LORA, VAE)) < 25e6


def test_only_with_the_lora_does_the_video_continue_the_given_image(demo_model, vae):
    settings = Settings(width=64, height=64)
    given = encode_keyframes(vae, [Keyframe(torch.from_numpy(SCENE.render([0])))], settings)
    errors = {}
    for strength in (0.0, 1.0):
        model = demo_model()
        merge_lora(model, load_lora(LORA), strength)
        latents = generate_latents(model, given, encode_text(SCENE.caption), encode_text(""), settings)
        video = vae.decode(latents).numpy()
        errors[strength] = compare(video, SCENE)
        assert look(video).color == SCENE.color
    assert errors[1.0].background < 0.5 * errors[0.0].background
    assert errors[1.0].position < 0.5 * errors[0.0].position


def test_a_lead_in_makes_the_latents_of_an_end_clip_those_of_the_whole_video(vae):
    video = torch.from_numpy(SCENE.render())
    expected = vae.encode(video)[:, :, -3:]
    frames, drop = lead_in(video[-12:], 18)
    with_lead_in = vae.encode(frames)[:, :, drop:]
    alone = vae.encode(torch.cat([video[-12:], video[-1:]]))[:, :, -3:]
    assert with_lead_in.shape == expected.shape
    assert (with_lead_in - expected).abs().mean() < 0.5 * (alone - expected).abs().mean()


def test_seed_fixes_the_result(demo_model):
    given = Given.empty(torch.zeros(1, 16, 1, 8, 8), 21)
    settings = Settings(width=64, height=64, steps=2, cfg=1.0)
    context = encode_text(SCENE.caption)
    first, second = (generate_latents(demo_model(), given, context, None, settings) for _ in range(2))
    assert torch.equal(first, second)


def test_a_decoder_in_training_makes_the_same_frames(vae):
    pytest.importorskip("pytorch_optimizer")
    from demo.training.tune_decoder import StillBlock, WanResidualBlock, replace_layers

    decoder, latents = copy.deepcopy(vae.model), torch.randn(2, 16, 3, 4, 4)
    before = decoder._decode(latents, return_dict=False)[0]
    replace_layers(decoder.decoder, WanResidualBlock, StillBlock)
    assert any(isinstance(layer, StillBlock) for layer in decoder.modules())
    with torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(decoder._decode(latents, return_dict=False)[0], before)
    replace_layers(decoder.decoder, StillBlock, lambda layer: layer.block)
    assert decoder.state_dict().keys() == vae.model.state_dict().keys()


def test_a_halo_is_what_the_background_lacks_around_the_object():
    video = SCENE.render()
    assert halo(video, SCENE) == pytest.approx(0, abs=1e-6)
    covered = (video != SCENE.background.astype(np.float32)).any(-1)
    around = np.stack([grown(mask) & ~mask for mask in covered])[..., None]
    assert halo(np.where(around, video + 0.1, video), SCENE) == pytest.approx(0.1, abs=1e-4)
    assert halo(np.where(around, video, video + 0.1), SCENE) == pytest.approx(0, abs=1e-6)


def test_captions_leave_the_exact_size_open():
    scene = draw_scene(3)
    low, high = RADII[scene.size]
    middle = replace(scene, radius=(low + high) / 2)
    assert captioned_size_error([middle]) == pytest.approx(0)
    assert captioned_size_error([middle, replace(middle, radius=low + high)]) == pytest.approx(0.75 / 2)


def test_in_a_window_clip_the_object_turns_round_inside_the_picture_and_then_goes_as_the_caption_says():
    turned = 0
    for seed in range(200):
        scene, times = draw_scene(seed), window_times(seed)
        assert len(times) == FRAMES
        positions = scene.positions(times.tolist())
        assert positions.min() >= scene.extent and positions.max() <= SIZE - scene.extent
        steps = np.diff(times[1:])
        assert set(steps) <= {-1, 1} and (steps[16:] == 1).all()
        turned += steps[0] == -1
    assert 0.6 < turned / 200 < 0.8


def test_the_difference_of_two_loras_is_a_lora_that_makes_one_into_the_other():
    generator = torch.Generator().manual_seed(0)

    def lora() -> dict[str, torch.Tensor]:
        shapes = {f"a{DOWN}": (4, 24), f"a{UP}": (32, 4), f"b{DOWN}": (4, 16), f"b{UP}": (8, 4)}
        return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}

    before, after = lora(), lora()
    tensors, share = difference(before, after, rank=8)
    assert share == pytest.approx(1, abs=1e-4) and tensors[f"a{DOWN}"].shape == (8, 24)
    for layer in "ab":
        old, new, between = (each[layer + UP].float() @ each[layer + DOWN].float() for each in (before, after, tensors))
        assert (old + between - new).norm() < 0.01 * new.norm()  # bfloat16
    assert difference(before, after, rank=1)[1] < 0.9
