"""A frozen base in 8 bits and block swap: the same gradients, with fewer bytes on the device."""

from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.resume_kills import command
from pusa_core.cli.train import parse_arguments
from pusa_core.training.config import TrainOptions
from pusa_core.training.eight_bits import EightBitLinear, held_in_eight_bits, quantise
from pusa_core.training.estimate import estimate
from pusa_core.training.launch import AcceleratedLaunch
from pusa_core.training.network import build_network, read_source
from pusa_core.training.swap import BlockSwap, DirectCopies
from pusa_core.weights.demo_files import DIT
from pusa_core.weights.quantised import widened
from tests.core.test_trainer_parts import gradients
from tests.support.forms import write

BLOCKS = 6  # of the demo model


@pytest.fixture(scope="module")
def config_of(tmp_path_factory):
    """Options of a training of the demo model, with flags."""
    folder = tmp_path_factory.mktemp("clips")
    return lambda *flags: parse_arguments(command(folder, folder / "run", "--train.rank=8", *flags)[3:])[1]


def network(config):
    return build_network(read_source(config), config, "cpu")[0]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("form", ["fp8", "scaled_fp8, e5m2", "weight_scale, rows"])
def test_an_fp8_file_is_held_as_it_is_and_trains_as_if_it_were_widened(config_of, tmp_path, form):
    stored = load_file(write(form, load_file(DIT), tmp_path))
    file = f"--model.checkpoint={next(tmp_path.iterdir())}"
    held, full = config_of(file), config_of(file, "--model.base_dtype=full")
    name = "blocks.3.ffn.0"
    layer = network(held).get_submodule(name).base
    assert isinstance(layer, EightBitLinear)
    assert torch.equal(layer.weight.view(torch.uint8), stored[f"{name}.weight"].view(torch.uint8))
    assert isinstance(network(full).get_submodule(name).base, nn.Linear)
    assert same(gradients(held), gradients(full))


@pytest.mark.parametrize("base", ["fp8", "int8"])
def test_a_base_in_eight_bits_is_near_and_its_gradients_are_those_of_its_widened_weights(config_of, tmp_path, base):
    weights = load_file(DIT)
    config = config_of(f"--model.base_dtype={base}")
    for name in held_in_eight_bits(read_source(config).checkpoint, base):
        weight = weights[name].float()
        step = weight.abs().amax(dim=1, keepdim=True) / 127  # of fp8 at 448: a 16th of a value, or of a 64th
        half = step / 2 if base == "int8" else weight.abs() / 16 + step * 127 / 448 / 1024
        near = widened(*quantise(weights[name], base))
        assert ((near - weight).abs() <= half + (weight.abs() + 1.1 * half) / 256).all()  # rounded to bf16
        weights[name] = near
    save_file(weights, tmp_path / "near.safetensors")
    assert same(gradients(config), gradients(config_of(f"--model.checkpoint={tmp_path / 'near.safetensors'}")))


@pytest.mark.parametrize("base", ["fp8", "int8"])
def test_a_row_of_zeros_stays_zero(base):
    weight = torch.randn(3, 4)
    weight[1] = 0
    assert torch.equal(widened(*quantise(weight, base))[1], torch.zeros(4, dtype=torch.bfloat16))


def test_no_widened_weight_is_kept_for_the_backward_pass(config_of):
    layer = network(config_of("--model.base_dtype=fp8")).get_submodule("blocks.0.ffn.0").base
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        layer(torch.randn(2, layer.in_features, requires_grad=True)).sum().backward()
    assert {tensor.dtype for tensor in kept if tensor.shape == layer.weight.shape} == {torch.float8_e4m3fn}


def test_bases_that_do_not_go_together_are_refused(config_of, tmp_path):
    with pytest.raises(ValueError, match=r"model\.base_dtype is fp8, but train\.mode is full"):
        config_of("--train.mode=full", "--model.base_dtype=fp8")
    path = write("fp8", load_file(DIT), tmp_path)
    with pytest.raises(ValueError, match=r"int8, but fp8\.safetensors is in fp8; use auto"):
        read_source(config_of(f"--model.checkpoint={path}", "--model.base_dtype=int8"))


class LateCopies(DirectCopies):
    """Copies that are made when something waits for them, and a journal."""

    def __init__(self):
        self.journal = []

    def start(self, target, source):
        self.journal.append(("copy", source.data_ptr()))
        return [lambda: target.copy_(source)]

    def wait(self, copy):
        while copy:
            copy.pop()()


@pytest.mark.parametrize("count", [1, 2, 3, BLOCKS])
def test_swapped_blocks_give_the_same_bits(config_of, monkeypatch, count):
    flags = ["--model.base_dtype=fp8", "--train.dropout=0.2"]
    plain = gradients(config_of(*flags))
    swapped = config_of(*flags, f"--train.swap_blocks={count}")
    assert same(gradients(swapped), plain)
    monkeypatch.setattr("pusa_core.training.swap.DirectCopies", LateCopies)
    assert same(gradients(swapped), plain)


class Trained(nn.Module):
    """A block of a frozen and a trained layer."""

    def __init__(self):
        super().__init__()
        self.frozen, self.trained = nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 4)

    def forward(self, x):
        return x + self.trained(self.frozen(x).tanh())


def passes(swap, blocks, x, *, train):
    """A forward pass, and with ``train`` a backward pass with recomputation, as the network has them."""
    with torch.set_grad_enabled(train):
        for index, block in enumerate(blocks):
            run = swap.around(index, block)
            x = torch.utils.checkpoint.checkpoint(run, x, use_reentrant=False) if train else run(x)
        if train:
            x.sum().backward()


def test_each_block_is_fetched_while_the_one_before_it_computes():
    blocks, copies = [Trained() for _ in range(7)], LateCopies()
    swap = BlockSwap(blocks, [1, 3, 4, 6], torch.device("cpu"), copies)
    numbers = {host.buffer.data_ptr(): place for place, host in enumerate(swap.hosts)}
    for place, index in enumerate((1, 3, 4, 6)):
        blocks[index].register_forward_pre_hook(lambda *_, place=place: copies.journal.append(("run", place)))
    x = torch.randn(2, 4)
    passes(swap, blocks, x, train=True)
    for train, fetched in ((True, [2, 3, 1, 0]), (True, [2, 3, 1, 0]), (False, [2, 3, 0]), (False, [1, 2, 3, 0])):
        copies.journal.clear()
        passes(swap, blocks, x, train=train)
        journal = [(what, numbers[which] if what == "copy" else which) for what, which in copies.journal]
        assert [place for what, place in journal if what == "copy"] == fetched
        assert all(("copy", run[1]) != before for before, run in pairwise(journal) if run[0] == "run")  # none too late
    on_device = sum(slot.buffer.nbytes for slot in swap._slots)
    assert on_device == 2 * swap.hosts[0].buffer.nbytes
    swap.leave()
    home = {host.buffer.untyped_storage().data_ptr() for host in swap.hosts}
    frozen = [blocks[index].frozen.weight for index in (1, 3, 4, 6)]
    assert {weight.untyped_storage().data_ptr() for weight in frozen} == home


def test_swapped_blocks_lie_apart_and_may_be_all():
    assert TrainOptions(swap_blocks=3).swapped_blocks(12) == [2, 6, 10]
    assert TrainOptions(swap_blocks=39).swapped_blocks(40) == sorted({*range(40)} - {19})
    assert TrainOptions(offload_weights=True, swap_blocks=1).swapped_blocks(3) == [0, 1, 2]
    assert TrainOptions().swapped_blocks(3) == []


def test_more_swapped_blocks_than_there_are_are_refused(config_of):
    with pytest.raises(ValueError, match=rf"train\.swap_blocks is 7; use 0 to {BLOCKS}"):
        read_source(config_of("--train.swap_blocks=7"))


def test_sharded_processes_refuse_block_swap(monkeypatch):
    pytest.importorskip("accelerate")
    monkeypatch.setattr("accelerate.state.AcceleratorState.fsdp_plugin", object(), raising=False)
    with pytest.raises(ValueError, match=r"train\.swap_blocks .* do not work with FSDP2 and DeepSpeed"):
        AcceleratedLaunch(TrainOptions(swap_blocks=2, device="cpu"))


@pytest.mark.parametrize("flags", [[], ["--model.base_dtype=int8"], ["--train.swap_blocks=4"]])
def test_the_estimate_counts_the_bytes_of_the_weights(config_of, flags):
    config = config_of("--model.dtype=bf16", *flags)
    found = estimate(read_source(config), config, torch.device("cpu"))
    model = network(config)
    weights = sum(value.nbytes for value in model.parameters() if not value.requires_grad)
    widest = model.blocks[0].ffn[0].base.weight.numel() * 2 if "--model.base_dtype=int8" in flags else 0
    hosts = [] if model.swap is None else [host.buffer.nbytes for host in model.swap.hosts]
    assert found.main_memory == sum(1 << (size - 1).bit_length() for size in hosts)  # as PyTorch pins them
    assert found.weights == pytest.approx(weights - sum(hosts) + sum(hosts[:2]) + widest, rel=1e-3)
