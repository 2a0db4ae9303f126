"""Checkpoints that were trained with a timestep for every frame: recognised, and complete with their frame rate."""

import logging

import pytest
import torch
from safetensors.torch import save_file

from pusa_core import WanConfig, WanModel, load_model
from pusa_core.cli import generate as command
from pusa_core.cli.main import build_parser
from pusa_core.weights.checkpoints import read_checkpoint
from pusa_core.weights.made_for_levels import SKYREELS_V2, SKYREELS_V3

CONFIG = WanConfig(dim=256, ffn_dim=512, num_heads=2, num_layers=2)
V3 = "Wan21-SkyReelsV3-V2V_fp8_e4m3fn_scaled.safetensors"
NAMES = {
    "SkyReels-V3-V2V-14B.safetensors": SKYREELS_V3,
    V3: SKYREELS_V3,
    "SkyReels-V3-V2V-14B/transformer/diffusion_pytorch_model.safetensors": SKYREELS_V3,
    "Wan2_1-SkyReels-V2-DF-14B-720P_fp16.safetensors": SKYREELS_V2,
    "SkyReels-V2-DF-14B-540P/model.safetensors": SKYREELS_V2,
    "Wan2_1-SkyReels-V2-T2V-14B-540P_fp16.safetensors": None,
    "wan2.1_t2v_14B_fp8_scaled.safetensors": None,
}


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return WanModel(CONFIG).state_dict()


def frame_rate(dim, diffusers=False):
    """The five tensors of the 1.3B model, in the names of its authors or of diffusers."""
    first, second = ("net.0.proj", "net.2") if diffusers else ("0", "2")
    shapes = {
        "fps_embedding.weight": (2, dim),
        f"fps_projection.{first}.weight": (dim, dim),
        f"fps_projection.{first}.bias": (dim,),
        f"fps_projection.{second}.weight": (6 * dim, dim),
        f"fps_projection.{second}.bias": (6 * dim,),
    }
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randn(shape, generator=generator) / 8 for name, shape in shapes.items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_file_or_of_its_folder_tells_the_family(weights, tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
    family = read_checkpoint(path).family
    assert family is NAMES[name]


def test_the_report_says_what_to_sample_it_with(weights, tmp_path):
    save_file(weights, tmp_path / V3)
    text = read_checkpoint(tmp_path / V3).describe()
    assert "SkyReels-V3-V2V" in text and "no Pusa LoRA" in text
    assert "8 steps, cfg 1, shift 8, 24 fps; to extend a clip give 25 frames" in text


@pytest.mark.parametrize("diffusers", [False, True])
def test_the_frame_rate_is_part_of_what_the_network_computes(weights, tmp_path, diffusers, caplog):
    """Against the reference's own formula: it adds the projected embedding to the modulation of every frame."""
    rate = frame_rate(CONFIG.dim, diffusers)
    save_file({**weights, **rate}, tmp_path / "any.safetensors")
    with caplog.at_level(logging.WARNING):
        model = load_model(tmp_path / "any.safetensors", device="cpu")
    assert "NOT USED" not in caplog.text
    assert read_checkpoint(tmp_path / "any.safetensors").family is SKYREELS_V2

    _, first, first_bias, second, second_bias = rate.values()
    hidden = torch.nn.functional.silu(rate["fps_embedding.weight"][1] @ first.T + first_bias)
    reference = WanModel(CONFIG).eval().requires_grad_(False)
    reference.load_state_dict(weights)
    projected = hidden @ second.T + second_bias
    reference.time_projection.register_forward_hook(lambda module, inputs, output: output + projected)

    generator = torch.Generator().manual_seed(1)
    inputs = (torch.randn(1, 16, 3, 4, 4, generator=generator), torch.tensor([[0.0, 300.0, 900.0]]))
    context = torch.randn(1, 8, 4096, generator=generator)
    plain = WanModel(CONFIG).eval().requires_grad_(False)
    plain.load_state_dict(weights)
    expected = reference(*inputs, context)
    assert (model(*inputs, context) - expected).abs().max() < 1e-5
    assert (plain(*inputs, context) - expected).abs().max() > 1e-2  # the embedding matters


def test_half_of_an_embedding_is_reported_and_not_used(weights, tmp_path):
    rate = frame_rate(CONFIG.dim)
    rate.popitem()
    save_file({**weights, **rate}, tmp_path / "any.safetensors")
    assert "NOT USED: 4" in read_checkpoint(tmp_path / "any.safetensors").describe()


def options_of(arguments):
    parser = build_parser()
    args = parser.parse_args([*map(str, arguments)])
    return args.options(args)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [([], (8, 1.0, 8.0)), (["--steps", "20", "--cfg", "4"], (20, 4.0, 8.0))],
)
def test_the_command_takes_the_settings_of_the_checkpoint_unless_told_others(weights, tmp_path, flags, expected):
    save_file(weights, tmp_path / V3)
    files = ["--checkpoint", tmp_path / V3, "--vae", "demo", "--text-encoder", "demo"]
    options = options_of(["generate", "--prompt", "x", "--out", tmp_path / "x.mp4", *files, *flags])
    settings = command.read_inputs(options.video, options.sampling, options.model).settings
    assert (settings.steps, settings.cfg, settings.shift) == expected
