"""Each pass leaves a step's answers as they were, with fewer nodes."""

from collections import Counter

import numpy as np
import onnx
import pytest

from glimpse.contract.tensors import GLIMPSE
from glimpse.export.graph.fragment import Fragment
from glimpse.export.graph.passes import fold_scaling, fuse_additions, simplify, split_gru_gates
from tests.glimpse.export.graph.test_fragment import agree, answers, expected, given

UNITS = pytest.mark.parametrize("unit", [1 / 255, 1.0])
WITH_MLP = ("mlp-gru", "mlp-lstm", "mlp-plain")


def kinds(fragment: Fragment) -> Counter[str]:
    return Counter(node.op_type for node in fragment.nodes)


def change(before: Fragment, after: Fragment) -> dict[str, int]:
    """How many more nodes of each kind there are."""
    counts = {kind: kinds(after)[kind] - kinds(before)[kind] for kind in kinds(before) | kinds(after)}
    return {kind: count for kind, count in counts.items() if count}


@UNITS
def test_the_scaling_goes_into_the_first_products(stepping, unit):
    fragment, values = stepping.fragment, given(stepping, 4)
    fold_scaling(fragment, unit)
    values_in_unit = {**values, GLIMPSE: (values[GLIMPSE] / unit).astype(np.float32)}
    agree(answers(fragment, values_in_unit), expected(stepping, values))
    if stepping.name in WITH_MLP:
        assert change(stepping.fragment, fragment) == {"Sub": -1, "Div": -1}
    else:
        assert change(stepping.fragment, fragment) == ({"Mul": 1} if unit != 1 else {})
    assert fragment.flattens is (stepping.name in WITH_MLP)


@pytest.mark.parametrize("name", WITH_MLP)
def test_a_piece_that_flattens_takes_glimpses_in_any_shape(steps, name):
    stepping = steps[name]
    fragment, values = stepping.fragment, given(stepping, 4)
    fold_scaling(fragment, 1.0)
    scales, channels, size, _ = stepping.glimpse_shape
    flat = {**values, GLIMPSE: values[GLIMPSE].reshape(4, scales * channels, size, size)}
    agree(answers(fragment, flat), expected(stepping, values))


def test_a_grus_gates_come_from_products_that_add(stepping):
    fragment, values = stepping.fragment, given(stepping, 4)
    split_gru_gates(fragment)
    agree(answers(fragment, values), expected(stepping, values))
    grus = 2 if stepping.options["core"] == "gru" else 0
    lost = {"Gemm": 2 * grus, "Split": -grus, "Add": -2 * grus, "Sigmoid": -grus}
    assert change(stepping.fragment, fragment) == {kind: count for kind, count in lost.items() if count}


@pytest.mark.parametrize(
    ("name", "sums"),
    [("conv-gru", 0), ("mlp-gru", 2), ("mlp-lstm", 1), ("mlp-plain", 2)],
)
def test_what_is_added_to_a_product_is_added_by_it(steps, name, sums):
    # What and where, and what a state and what an input bring a cell. A saccade has its bias to add already.
    stepping = steps[name]
    fragment, values = stepping.fragment, given(stepping, 4)
    fuse_additions(fragment)
    agree(answers(fragment, values), expected(stepping, values))
    assert change(stepping.fragment, fragment) == ({"Add": -sums} if sums else {})


@UNITS
def test_all_passes_together_change_no_answer(stepping, unit):
    for batch in (1, 6):
        fragment, values = stepping.fragment, given(stepping, batch)
        simplify(fragment, unit)
        values_in_unit = {**values, GLIMPSE: (values[GLIMPSE] / unit).astype(np.float32)}
        agree(answers(fragment, values_in_unit), expected(stepping, values))


@pytest.mark.parametrize(
    ("name", "nodes", "adds"),
    [("conv-gru", 58, 5), ("mlp-gru", 43, 4), ("mlp-lstm", 30, 1), ("mlp-plain", 20, 1)],
)
def test_so_many_nodes_are_left(steps, name, nodes, adds):
    fragment = steps[name].fragment
    simplify(fragment, 1.0)
    assert len(fragment.nodes) == nodes
    assert len(fragment.nodes) < len(steps[name].fragment.nodes)
    assert kinds(fragment)["Add"] == adds
    assert "Identity" not in kinds(fragment)


def test_what_nobody_reads_any_more_is_not_stored(stepping):
    fragment = stepping.fragment
    simplify(fragment, 1.0)
    assert fragment.weights.keys() <= {name for node in fragment.nodes for name in node.input}
    before, after = (
        sum(int(np.prod(tensor.dims)) for tensor in each.weights.values()) for each in (stepping.fragment, fragment)
    )
    assert after <= before + 4, "the weights are the same ones in other places"


def test_nodes_stay_in_an_order_in_which_they_can_be_run(stepping):
    fragment = stepping.fragment
    simplify(fragment, 1 / 255)
    known = {*fragment.inputs, *fragment.weights}
    for node in fragment.nodes:
        assert set(node.input) <= known | {""}
        known |= set(node.output)
    assert known >= set(fragment.outputs)


def of_nodes(*nodes: onnx.NodeProto, **weights: object) -> Fragment:
    fragment = Fragment(("x", "y"), ("z",), list(nodes), {}, (1, 1, 1, 1))
    for name, numbers in weights.items():
        fragment.store(name, np.array(numbers, np.float32))
    return fragment


def test_what_a_product_is_added_to_elsewhere_stays():
    make = onnx.helper.make_node
    read_twice = of_nodes(
        make("Gemm", ["x", "w"], ["product"]),
        make("Add", ["product", "y"], ["sum"]),
        make("Mul", ["product", "sum"], ["z"]),
        w=np.eye(2),
    )
    constant = of_nodes(make("Gemm", ["x", "w"], ["product"]), make("Add", ["product", "w"], ["z"]), w=np.eye(2))
    biased = of_nodes(
        make("Gemm", ["x", "w", "b"], ["product"]), make("Add", ["product", "y"], ["z"]), w=np.eye(2), b=[1, 2]
    )
    for fragment in (read_twice, constant, biased):
        before = [node.SerializeToString() for node in fragment.nodes]
        fuse_additions(fragment)
        assert [node.SerializeToString() for node in fragment.nodes] == before


def test_a_tanh_that_is_no_grus_stays():
    make = onnx.helper.make_node
    fragment = of_nodes(
        make("Mul", ["x", "y"], ["both"]), make("Add", ["both", "x"], ["sum"]), make("Tanh", ["sum"], ["z"])
    )
    split_gru_gates(fragment)
    assert kinds(fragment) == {"Mul": 1, "Add": 1, "Tanh": 1}


def test_identities_go_but_for_outputs():
    make = onnx.helper.make_node
    fragment = of_nodes(
        make("Identity", ["x"], ["same"]), make("Neg", ["same"], ["less"]), make("Identity", ["less"], ["z"])
    )
    simplify(fragment, 1.0)
    assert [(node.op_type, list(node.input)) for node in fragment.nodes] == [("Neg", ["x"]), ("Identity", ["less"])]
