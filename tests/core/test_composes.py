"""The table of what composes: what a row says, and which inputs a node is run with."""

import pytest

from tools.composes import Row, default_of, inputs_of, takes_model


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


def test_only_nodes_with_a_model_on_both_sides_are_run():
    required = {"model": ["MODEL", {}]}
    assert takes_model({"input": {"required": required}, "output": ["LATENT", "MODEL"]})
    assert not takes_model({"input": {"required": required}, "output": ["LATENT"]})
    assert not takes_model({"input": {}, "output": ["MODEL"]})


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Row("A", "", 0.5, 1e-6), "same effect"),
        (Row("A", "", 0.0, 1e-6), "no effect on either"),
        (Row("A", "", error="needs a UNet"), "refused alike: needs a UNet"),
        (Row("A", "", 0.5, 0.3, failure="difference 0.3"), "**fails**"),
    ],
)
def test_a_row_says_what_was_seen(row, said):
    assert said in row.cells()
