"""``torch.compile``: one graph for the whole network, and the same graph at every step."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from pusa_core import Lora, LoraLayer, merge_lora
from pusa_core.model.rope import apply_rope, rope_table
from tests.conftest import max_error


@pytest.fixture
def counter():
    torch._dynamo.reset()
    yield CompileCounter()
    torch._dynamo.reset()


def inputs(model, size=(5, 6, 8), batch=1):
    latents = torch.randn(batch, model.config.in_dim, *size)
    return latents, torch.randn(batch, 7, model.config.text_dim)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_steps_share_one_graph_without_breaks(tiny_model, counter, mode):
    model = tiny_model()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    latents, context = inputs(model)
    with mode():
        for sigma in (1.0, 0.9, 0.4):
            timestep = 1000 * sigma * torch.tensor([[0.0, 1.0, 0.3, 1.0, 1.0]])
            assert (
                max_error(compiled(latents * sigma, timestep, context), model(latents * sigma, timestep, context))
                < 1e-5
            )
    assert counter.frame_count == 1


def test_other_sizes_and_batches_share_a_graph_too(tiny_model, counter):
    """The first other size is compiled once more, for any size; after it, nothing is."""
    model = tiny_model()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    counts = []
    with torch.inference_mode():
        for size in ((5, 6, 8), (5, 8, 12), (5, 10, 14), (5, 12, 6)):
            latents, context = inputs(model, size)
            timestep = torch.rand(1, 5) * 1000
            assert max_error(compiled(latents, timestep, context), model(latents, timestep, context)) < 1e-5
            counts.append(counter.frame_count)
    assert counts == [1, 2, 2, 2]


def test_blocks_compiled_one_by_one_share_their_code(tiny_model, counter):
    model = tiny_model()
    latents, context = inputs(model)
    timestep = torch.rand(1, 5) * 1000
    with torch.inference_mode():
        plain = model(latents, timestep, context)
        for block in model.blocks:
            block.compile(backend=counter, fullgraph=True)
        assert max_error(model(latents, timestep, context), plain) < 1e-5
    assert counter.frame_count == 1


def test_no_tensor_of_the_graph_is_in_double_precision(tiny_model):
    model, dtypes = tiny_model(), set()

    def look(graph, example_inputs):
        for node in graph.graph.nodes:
            value = node.meta.get("example_value")
            dtypes.update([value.dtype] if isinstance(value, torch.Tensor) else [])
        return graph.forward

    torch._dynamo.reset()
    latents, context = inputs(model)
    torch.compile(model, backend=look, fullgraph=True)(latents, torch.rand(1, 5), context)
    torch._dynamo.reset()
    assert dtypes and torch.float64 not in dtypes and torch.complex128 not in dtypes


def test_rotated_tokens_are_stored_in_their_own_type_alone():
    """A compiler stores what is stacked as it is: in fp32, queries and keys would take three times their size."""
    stored = []

    def look(graph, example_inputs):
        stored.extend(node.meta["example_value"].dtype for node in graph.graph.nodes if node.target is torch.stack)
        return graph.forward

    torch._dynamo.reset()
    x, table = torch.randn(1, 48, 2, 16).bfloat16(), rope_table(16, (3, 4, 4), torch.device("cpu"))
    with torch.no_grad():
        rotated = torch.compile(apply_rope, backend=look, fullgraph=True)(x, table)
        assert max_error(rotated, apply_rope(x.clone(), table)) < 1e-2
    torch._dynamo.reset()
    assert stored == [torch.bfloat16]


def test_levels_of_tokens_share_one_graph_too(tiny_model, counter):
    """However many distinct ones there are, and whatever they are."""
    model = tiny_model()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    latents, context = inputs(model)
    with torch.inference_mode():
        for distinct in (1, 3, 12):
            timestep = 1000 * torch.randint(distinct, (1, 5, 3, 4)) / distinct
            assert max_error(compiled(latents, timestep, context), model(latents, timestep, context)) < 1e-5
    assert counter.frame_count == 1


def test_a_lora_of_another_strength_is_no_other_graph(tiny_model, counter):
    """Weights are inputs of the graph: what is merged into them later is followed."""
    model = tiny_model()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    latents, context = inputs(model)
    timestep = torch.rand(1, 5) * 1000
    width, rank = model.config.dim, 4
    layer = LoraLayer(torch.randn(rank, width), torch.randn(width, rank) / width)
    outputs = []
    with torch.inference_mode():
        for strength in (0.0, 1.0, 0.4):
            merge_lora(model, Lora({"blocks.0.self_attn.q": layer, "blocks.1.self_attn.o": layer}), strength)
            outputs.append(compiled(latents, timestep, context))
            assert max_error(outputs[-1], model(latents, timestep, context)) < 1e-5
    assert counter.frame_count == 1
    assert max_error(outputs[1], outputs[2]) > 1e-4
