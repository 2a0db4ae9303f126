"""The table of what composes: what a row says, and which inputs a node is run with."""

import pytest

from tools.composes import BOUND, VISIBLE, Row, takes_model, why_not
from tools.composes_cases import Case, default_of, inputs_of, node, video_graph


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        (["INT", {"default": 3}], 3),
        (["FLOAT", {}], 0.0),
        (["STRING", {"multiline": True}], ""),
        ([["a", "b"]], "a"),
        (["COMBO", {"options": ["c", "d"]}], "c"),
        ([[]], None),
    ],
)
def test_an_untouched_widget_has_its_default(spec, value):
    assert default_of(spec) == value


def test_a_second_model_is_another_one():
    info = {"input": {"required": {"model1": ["MODEL"], "model2": ["MODEL"], "ratio": ["FLOAT", {"default": 1.0}]}}}
    inputs = inputs_of("ModelMergeSimple", info)
    assert inputs == {"model1": ["model", 0], "model2": ["other", 0], "ratio": 0.5}


def test_a_node_that_needs_what_the_demo_has_not_is_told_by_that_type():
    assert inputs_of("Apply", {"input": {"required": {"model": ["MODEL"], "net": ["CONTROL_NET"]}}}) == "CONTROL_NET"


def test_a_list_of_no_files_is_told_by_its_input():
    assert inputs_of("Apply", {"input": {"required": {"net_name": [[]]}}}) == "a file for net_name"


def test_only_nodes_with_a_model_on_both_sides_are_run():
    required = {"model": ["MODEL", {}]}
    assert takes_model("A", {"input": {"required": required}, "output": ["LATENT", "MODEL"]})
    assert not takes_model("A", {"input": {"required": required}, "output": ["LATENT"]})
    assert not takes_model("A", {"input": {}, "output": ["MODEL"]})
    assert takes_model("ModelPassThrough", {"input": {}, "output": ["MODEL"]})  # a case of ours: its input is optional


def test_nodes_for_other_networks_are_not_run_and_the_page_says_why():
    assert why_not("ModelMergeSDXL", compiled=False) == "another network than Wan's"
    assert why_not("ModelSamplingSD3", compiled=False) == ""  # by its case
    assert "compil" in why_not("TorchCompileModel", compiled=False)
    assert why_not("TorchCompileModel", compiled=True) == ""


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Row("A", "", 0.5, 1e-6), "| same effect |"),
        (Row("A", "", 0.5, 1e-6, no_effect="it draws"), "**fails**: it has an effect, though it draws"),
        (Row("A", "", VISIBLE / 2, 1e-6), "**fails**: no effect on either, which proves nothing"),
        (Row("A", "", 0.0, 1e-6, no_effect="it draws"), "none on either: it draws"),
        (Row("A", "", 0.5, BOUND), "**fails**: the two differ"),
        (Row("A", "", 0.0, BOUND, no_effect="it draws"), "**fails**: the two differ"),
    ],
)
def test_a_row_without_effect_fails_unless_it_says_why(row, said):
    judged = row.judged()
    assert said in judged.cells()
    assert bool(judged.failure) == ("fails" in said)


def test_a_node_that_both_refuse_passes_with_the_reason():
    assert Row("A", "", error="needs a UNet").cells() == "| A | | | refused alike: needs a UNet |"


def test_a_node_that_one_refuses_fails():
    assert "**fails**: only on Pusa Load: no" in Row("A", "", failure="only on Pusa Load: no").cells()


def test_a_native_model_is_patched_behind_the_node_for_another_sampler():
    case, changed = Case(sampler="KSampler"), node("ModelSamplingSD3", model=["model", 0], shift=2.0)
    native, ours = (video_graph(own, case, changed) for own in (False, True))
    assert native["patched"]["inputs"]["model"] == ["changed", 0] == ours["video"]["inputs"]["model"]
    assert native["video"]["inputs"]["model"] == ["patched", 0]
    assert "patched" not in ours


def test_a_loader_stands_against_pusa_load_with_the_same_file():
    case = Case({"unet_name": "a.gguf"}, ours={"model_name": "a.gguf"})
    loader = node("UnetLoaderGGUF", **case.inputs)
    assert video_graph(False, case, loader)["model"] == loader
    assert video_graph(True, case, loader)["model"]["inputs"]["model_name"] == "a.gguf"


def test_a_graph_has_no_node_of_a_pack_that_it_does_not_use():
    assert "loras" not in video_graph(True, Case())
    stack = node("easy loraStackApply", model=["model", 0], lora_stack=["loras", 0])
    assert "loras" in video_graph(True, Case(), stack)
