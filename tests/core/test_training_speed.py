"""Compiled blocks and the attention kernel of a training."""

from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from benchmarks.resume_kills import command
from pusa_core.cli.train import parse_arguments
from pusa_core.model.attention import attention, attention_by
from pusa_core.training.config import TrainOptions
from pusa_core.training.failure import rescue
from pusa_core.training.launch import AcceleratedLaunch
from pusa_core.training.network import build_network, read_source
from tests.core.test_trainer_parts import gradients


@pytest.fixture(scope="module")
def config_of(tmp_path_factory):
    """Options of a training of the demo model, with flags."""
    folder = tmp_path_factory.mktemp("clips")
    return lambda *flags: parse_arguments(command(folder, folder / "run", "--train.rank=8", *flags)[3:])[1]


@pytest.fixture
def compiler(monkeypatch):
    """Traces forward and backward pass as the default one does, and counts, but generates no code."""
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    yield counter
    torch._dynamo.reset()


def test_compiled_blocks_give_the_gradients_and_share_their_graphs(config_of, compiler):
    flags = ["--model.base_dtype=fp8", "--train.swap_blocks=2"]
    plain, found = gradients(config_of(*flags)), gradients(config_of(*flags, "--train.compile=true"))
    assert compiler.frame_count == 2  # the input of the first block needs no gradient
    largest = max(grad.abs().max() for grad in plain.values())
    assert all((found[name] - plain[name]).abs().max() < 1e-5 * largest for name in plain)


def test_what_cannot_be_compiled_as_a_whole_is_an_error_and_not_run_without(config_of, compiler):
    config = config_of("--train.compile=true")
    model, _ = build_network(read_source(config), config, "cpu")
    model.attend = lambda q, k, v: attention(q, k, v) * float(q.sum() > 0)  # as a kernel that it cannot trace
    inputs = torch.randn(1, 16, 2, 4, 4), torch.zeros(1, 2), torch.randn(1, 3, 4096)
    with pytest.raises(Exception) as caught:
        model(*inputs)

    class Trainer:
        step, launch, folder, options = 0, None, None, config.train

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pusa_core.training.failure.next_start", lambda folder: 0)
        Trainer.setup = type("Setup", (), {"report": staticmethod(lambda *_, **__: None)})
        message = str(rescue(caught.value, Trainer()))
    assert "step 1 failed: train.compile does not work here; turn it off" in message
    assert model.eval()(*inputs).isfinite().all()  # validation runs without


@pytest.mark.parametrize("backend", ["auto", "flash", "math"])
def test_the_backends_of_pytorch_compute_the_same(config_of, backend):
    plain, found = gradients(config_of()), gradients(config_of(f"--train.attention={backend}"))
    largest = max(grad.abs().max() for grad in plain.values())
    assert all((found[name] - plain[name]).abs().max() < 1e-5 * largest for name in plain)


def test_a_backend_that_is_not_there_is_an_error():
    q = torch.randn(1, 4, 2, 8)
    with pytest.raises(RuntimeError, match=r"No (available|viable)"):
        attention_by("efficient")(q, q, q)


def test_sharded_processes_refuse_to_compile(monkeypatch):
    pytest.importorskip("accelerate")
    monkeypatch.setattr("accelerate.state.AcceleratorState.fsdp_plugin", object(), raising=False)
    with pytest.raises(ValueError, match=r"train\.compile works in one process and with DDP"):
        AcceleratedLaunch(TrainOptions(compile=True, device="cpu"))
