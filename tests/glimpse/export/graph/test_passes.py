"""Each pass leaves a step's answers as they were, with fewer nodes."""

from collections import Counter

import numpy as np
import onnx
import pytest

from glimpse.contract.tensors import GLIMPSE
from glimpse.export.graph.fragment import Fragment
from glimpse.export.graph.passes import add_in_products, simplify, split_gates, take_in_scaling
from tests.glimpse.export.graph.test_fragment import agree, answers, expected, given

UNITS = pytest.mark.parametrize("unit", [1 / 255, 1.0])
WITH_MLP = ("mlp-gru", "mlp-lstm", "mlp-plain")


def kinds(piece: Fragment) -> Counter[str]:
    return Counter(node.op_type for node in piece.nodes)


def change(before: Fragment, after: Fragment) -> dict[str, int]:
    """How many more nodes of each kind there are."""
    counts = {kind: kinds(after)[kind] - kinds(before)[kind] for kind in kinds(before) | kinds(after)}
    return {kind: count for kind, count in counts.items() if count}


@UNITS
def test_the_scaling_goes_into_the_first_products(stepping, unit):
    piece, values = stepping.piece, given(stepping, 4)
    take_in_scaling(piece, unit)
    values_in_unit = {**values, GLIMPSE: (values[GLIMPSE] / unit).astype(np.float32)}
    agree(answers(piece, values_in_unit), expected(stepping, values))
    if stepping.name in WITH_MLP:
        assert change(stepping.piece, piece) == {"Sub": -1, "Div": -1}
    else:
        assert change(stepping.piece, piece) == ({"Mul": 1} if unit != 1 else {})
    assert piece.flattens is (stepping.name in WITH_MLP)


@pytest.mark.parametrize("name", WITH_MLP)
def test_a_piece_that_flattens_takes_glimpses_in_any_shape(steps, name):
    stepping = steps[name]
    piece, values = stepping.piece, given(stepping, 4)
    take_in_scaling(piece, 1.0)
    scales, channels, size, _ = stepping.glimpse_shape
    flat = {**values, GLIMPSE: values[GLIMPSE].reshape(4, scales * channels, size, size)}
    agree(answers(piece, flat), expected(stepping, values))


def test_a_grus_gates_come_from_products_that_add(stepping):
    piece, values = stepping.piece, given(stepping, 4)
    split_gates(piece)
    agree(answers(piece, values), expected(stepping, values))
    grus = 2 if stepping.options["core"] == "gru" else 0
    lost = {"Gemm": 2 * grus, "Split": -grus, "Add": -2 * grus, "Sigmoid": -grus}
    assert change(stepping.piece, piece) == {kind: count for kind, count in lost.items() if count}


@pytest.mark.parametrize(
    ("name", "sums"),
    [("conv-gru", 0), ("mlp-gru", 2), ("mlp-lstm", 1), ("mlp-plain", 2)],
)
def test_what_is_added_to_a_product_is_added_by_it(steps, name, sums):
    # What and where, and what a state and what an input bring a cell. A saccade has its bias to add already.
    stepping = steps[name]
    piece, values = stepping.piece, given(stepping, 4)
    add_in_products(piece)
    agree(answers(piece, values), expected(stepping, values))
    assert change(stepping.piece, piece) == ({"Add": -sums} if sums else {})


@UNITS
def test_all_passes_together_change_no_answer(stepping, unit):
    for batch in (1, 6):
        piece, values = stepping.piece, given(stepping, batch)
        simplify(piece, unit)
        values_in_unit = {**values, GLIMPSE: (values[GLIMPSE] / unit).astype(np.float32)}
        agree(answers(piece, values_in_unit), expected(stepping, values))


@pytest.mark.parametrize(
    ("name", "nodes", "adds"),
    [("conv-gru", 58, 5), ("mlp-gru", 43, 4), ("mlp-lstm", 30, 1), ("mlp-plain", 20, 1)],
)
def test_so_many_nodes_are_left(steps, name, nodes, adds):
    piece = steps[name].piece
    simplify(piece, 1.0)
    assert len(piece.nodes) == nodes
    assert len(piece.nodes) < len(steps[name].piece.nodes)
    assert kinds(piece)["Add"] == adds
    assert "Identity" not in kinds(piece)


def test_what_nobody_reads_any_more_is_not_stored(stepping):
    piece = stepping.piece
    simplify(piece, 1.0)
    assert piece.weights.keys() <= {name for node in piece.nodes for name in node.input}
    before, after = (
        sum(int(np.prod(tensor.dims)) for tensor in each.weights.values()) for each in (stepping.piece, piece)
    )
    assert after <= before + 4, "the weights are the same ones in other places"


def test_nodes_stay_in_an_order_in_which_they_can_be_run(stepping):
    piece = stepping.piece
    simplify(piece, 1 / 255)
    known = {*piece.inputs, *piece.weights}
    for node in piece.nodes:
        assert set(node.input) <= known | {""}
        known |= set(node.output)
    assert known >= set(piece.outputs)


def of_nodes(*nodes: onnx.NodeProto, **weights: object) -> Fragment:
    piece = Fragment(("x", "y"), ("z",), list(nodes), {}, (1, 1, 1, 1))
    for name, numbers in weights.items():
        piece.store(name, np.array(numbers, np.float32))
    return piece


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
    for piece in (read_twice, constant, biased):
        before = [node.SerializeToString() for node in piece.nodes]
        add_in_products(piece)
        assert [node.SerializeToString() for node in piece.nodes] == before


def test_a_tanh_that_is_no_grus_stays():
    make = onnx.helper.make_node
    piece = of_nodes(
        make("Mul", ["x", "y"], ["both"]), make("Add", ["both", "x"], ["sum"]), make("Tanh", ["sum"], ["z"])
    )
    split_gates(piece)
    assert kinds(piece) == {"Mul": 1, "Add": 1, "Tanh": 1}


def test_identities_go_but_for_outputs():
    make = onnx.helper.make_node
    piece = of_nodes(
        make("Identity", ["x"], ["same"]), make("Neg", ["same"], ["less"]), make("Identity", ["less"], ["z"])
    )
    simplify(piece, 1.0)
    assert [(node.op_type, list(node.input)) for node in piece.nodes] == [("Neg", ["x"]), ("Identity", ["less"])]
