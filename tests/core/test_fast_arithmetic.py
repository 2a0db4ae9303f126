"""8-bit attention and products of the command line: where they go, how far they are from the exact ones."""

import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from pusa_core.cli.main import main
from pusa_core.model.attention import attention
from pusa_core.model.fast_arithmetic import ATTENTIONS, attention_kernel, use_8bit_products, use_attention
from pusa_core.model.kv_cache import FrozenFrames, KVCache
from tests.conftest import max_error


def rounded(x, dims):
    """``x`` in 8 bits with a scale for each slice over ``dims``, as SageAttention's queries and keys."""
    scale = x.abs().amax(dims, keepdim=True) / 127
    return (x / scale).round() * scale


@pytest.fixture
def sage(monkeypatch):
    """A stand-in for the package, whose kernels need a GPU: the same signature, and 8 bits for queries and keys."""
    calls = []

    def sageattn(q, k, v, tensor_layout="HND", is_causal=False):
        assert tensor_layout == "NHD" and not is_causal and q.shape[2:] == k.shape[2:] == v.shape[2:]
        calls.append((q.shape, k.shape))
        mean = k.mean(dim=1, keepdim=True)  # which the softmax does not see
        parts = (rounded(q, (3,)), rounded(k - mean, (3,)), v)
        return F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in parts)).transpose(1, 2)

    module = ModuleType("sageattention")
    module.sageattn = sageattn
    module.__spec__ = __import__("importlib").machinery.ModuleSpec("sageattention", None)
    monkeypatch.setitem(sys.modules, "sageattention", module)
    return calls


def inputs(model):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, model.config.in_dim, 5, 6, 8, generator=generator)
    context = torch.randn(1, 7, model.config.text_dim, generator=generator)
    return latents, torch.tensor([[0.0, 1000, 300, 1000, 700]]), context


def test_the_network_attends_by_the_kernel_in_every_attention(tiny_model, sage):
    model = tiny_model()
    exact = model(*inputs(model))
    use_attention(model, "sage")
    with torch.no_grad():
        error = max_error(model(*inputs(model)), exact)
    assert len(sage) == 2 * len(model.blocks)
    assert 0 < error < 0.02 * exact.abs().max()


def test_cached_frames_are_attended_to_by_the_kernel(tiny_model, sage):
    model = tiny_model()
    use_attention(model, "sage")
    cache = KVCache(FrozenFrames((0,), (1, 2, 3, 4), 0))
    with torch.no_grad():
        for _ in range(2):
            cache.velocity(model, model.blocks, *inputs(model))
    tokens = 3 * 4
    assert sage[-2] == ((1, 4 * tokens, *sage[-2][0][2:]), (1, 5 * tokens, *sage[-2][1][2:]))


def test_a_caller_may_bring_another_kernel(tiny_model, sage):
    model = tiny_model()
    use_attention(model, "sage")
    with torch.no_grad():
        model(*inputs(model), attend=lambda q, k, v: attention(q, k, v))
    assert not sage
    with torch.no_grad():
        model(*inputs(model), attend=attention)  # as a network shared by several processes calls it
    assert sage


@pytest.mark.parametrize("name", ["torch", "flash", "efficient"])
def test_pytorchs_own_kernels_agree(name):
    q, k, v = (torch.randn(1, 40, 2, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    try:
        found = attention_kernel(name)(q, k, v)
    except RuntimeError:
        pytest.skip(f"PyTorch has no {name} attention on this device")
    assert max_error(found, attention(q, k, v)) < 1e-5


def test_what_is_not_installed_is_refused_by_name(monkeypatch, tiny_model):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="attention sage needs the package sageattention and a GPU: pip install"):
        attention_kernel("sage")
    with pytest.raises(ValueError, match="8-bit products need the package torchao: pip install torchao"):
        use_8bit_products(tiny_model(), "int8")


def test_unknown_names_are_refused(tiny_model):
    with pytest.raises(ValueError, match='attention is "x"; use one of ' + ", ".join(ATTENTIONS)):
        attention_kernel("x")
    with pytest.raises(ValueError, match='of the kind "int4" are unknown; use one of int8, fp8'):
        use_8bit_products(tiny_model(), "int4")


def test_8bit_products_are_near_the_exact_ones(tiny_model):
    pytest.importorskip("torchao")
    model = tiny_model()
    exact = model(*inputs(model)).detach()
    use_8bit_products(model, "int8")
    with torch.no_grad():
        error = max_error(model(*inputs(model)), exact)
    assert 1e-5 < error < 0.1 * exact.abs().max()


def test_the_command_line_uses_the_kernel(tmp_path, sage):
    pytest.importorskip("diffusers")
    options = ["--steps", "1", "--cfg", "1", "--frames", "5", "--size", "32x32", "--attention", "sage"]
    main(["generate", "--prompt", "x", *options, "--device", "cpu", "--out", str(tmp_path / "out.mp4")])
    assert len(sage) == 2 * 6  # both attentions of the demo model's blocks


def test_offloaded_weights_stay_as_they_are(tmp_path):
    with pytest.raises(SystemExit, match="--products changes weights that --offload moves about; use one of them"):
        main(["generate", "--prompt", "x", "--offload", "--products", "int8", "--out", str(tmp_path / "out.mp4")])
