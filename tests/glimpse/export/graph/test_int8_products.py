"""int8 products are exact integers on every processor.

x86 processors without VNNI instructions multiply with ``pmaddubsw``: two neighbouring products of a uint8 and an int8
are added in an int16, which saturates. These tests compare the products of the written weights with
integer arithmetic and with a simulation of that instruction, so that they fail on every processor if a product can
saturate on one.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from glimpse.export.graph.assembly import GraphPlan, assemble
from glimpse.export.graph.builder import GraphBuilder, value
from glimpse.export.graph.fragment import Fragment
from glimpse.export.graph.passes import simplify
from glimpse.export.graph.precision import LARGEST_INT8, to_int8
from glimpse.export.parity import session_of

Bytes = npt.NDArray[np.uint8]
Whole = npt.NDArray[np.int8]
INT16 = np.iinfo(np.int16)


def exact(left: Bytes, zero: int, weight: Whole) -> npt.NDArray[np.int32]:
    """The product in int32, as ONNX defines ``MatMulInteger``."""
    return np.asarray((left.astype(np.int32) - zero) @ weight.astype(np.int32), np.int32)


def saturating(left: Bytes, zero: int, weight: Whole) -> npt.NDArray[np.int32]:
    """The product as ``pmaddubsw`` computes it: pairs along the rows of the weight are added in an int16."""
    even = np.pad(left, ((0, 0), (0, len(weight) % 2))).astype(np.int32)
    rows = np.pad(weight, ((0, len(weight) % 2), (0, 0))).astype(np.int32)
    pairs = even[:, ::2, None] * rows[None, ::2] + even[:, 1::2, None] * rows[None, 1::2]
    product = np.clip(pairs, INT16.min, INT16.max).sum(1, dtype=np.int32)
    return np.asarray(product - zero * rows.sum(0, dtype=np.int32), np.int32)


def by_onnxruntime(left: Bytes, zero: int, weight: Whole) -> npt.NDArray[np.int32]:
    """The product as onnxruntime computes it on this processor."""
    builder = GraphBuilder()
    whole = builder.weight(numpy_helper.from_array(weight, "weight"))
    builder("MatMulInteger", "left", whole, builder.constant(zero, np.uint8), name="product")
    inputs = [value("left", np.uint8, ["batch", len(weight)])]
    outputs = [value("product", np.int32, ["batch", weight.shape[1]])]
    session = session_of(builder.model(inputs, outputs, {}).SerializeToString())
    (product,) = session.run(["product"], {"left": left})
    return np.asarray(product, np.int32)


def hardest(weight: Whole) -> Iterator[Bytes]:
    """Activations for which a sum of two products is largest: all 255, and 255 where a column has one sign."""
    yield np.full((1, len(weight)), 255, np.uint8)
    yield np.full((5, len(weight)), 255, np.uint8)
    yield np.where(weight.T > 0, 255, 0).astype(np.uint8)
    yield np.where(weight.T < 0, 255, 0).astype(np.uint8)
    for batch in (1, 7):
        yield np.random.default_rng(batch).integers(0, 256, (batch, len(weight)), np.uint8)


def in_int8(stepping) -> Fragment:
    fragment: Fragment = stepping.fragment
    simplify(fragment, 1.0)
    to_int8(fragment, narrow=1)
    return fragment


def one_product(matrix: npt.NDArray[np.float32]) -> Fragment:
    """A fragment of one ``Gemm``, from x to y, in int8."""
    weights = {"matrix": numpy_helper.from_array(matrix, "matrix")}
    fragment = Fragment(("x",), ("y",), [helper.make_node("Gemm", ["x", "matrix"], ["y"])], weights, (1, 1, 1, 1))
    to_int8(fragment)
    return fragment


def whole_weights(fragment: Fragment) -> list[Whole]:
    """The int8 weights of a fragment."""
    tensors = [tensor for tensor in fragment.weights.values() if tensor.data_type == TensorProto.INT8]
    assert tensors
    return [numpy_helper.to_array(tensor) for tensor in tensors]


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs within."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from all_nodes(attribute.g)


@pytest.mark.parametrize("graph", ["episode", "adaptive", "step"])
def test_all_that_is_quantized_in_a_file_is_a_product_with_weights_that_cannot_saturate(stepping, graph):
    model = assemble(GraphPlan(in_int8(stepping), stepping.state_sizes, stepping.card(graph, precision="int8")))
    weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT8}
    nodes = list(all_nodes(model.graph))
    products = [node for node in nodes if node.op_type == "MatMulInteger"]
    quantized = {node.op_type for node in nodes if "Integer" in node.op_type or "Linear" in node.op_type}
    assert quantized == {"DynamicQuantizeLinear", "MatMulInteger"}
    assert {node.domain for node in nodes} == {""}
    assert weights.keys() == {node.input[1] for node in products}
    for node in products:
        assert len(node.input) == 3, "expected a weight without a zero point"
        assert np.abs(numpy_helper.to_array(weights[node.input[1]]).astype(int)).max() == LARGEST_INT8


def test_products_of_a_step_are_exact_with_and_without_saturation(stepping):
    for weight in whole_weights(in_int8(stepping)):
        for left in hardest(weight):
            for zero in (0, 131):
                wanted = exact(left, zero, weight)
                np.testing.assert_array_equal(saturating(left, zero, weight), wanted)
                np.testing.assert_array_equal(by_onnxruntime(left, zero, weight), wanted)


@pytest.mark.parametrize("rows", [16, 129, 432])
def test_products_of_the_largest_weights_are_exact_with_and_without_saturation(rows):
    """A column of equal numbers is one of the largest int8 weights, of one sign."""
    signs = np.where(np.arange(24) % 3, 1, -1)
    (weight,) = whole_weights(one_product(np.tile(0.3 * signs, (rows, 1)).astype(np.float32)))
    np.testing.assert_array_equal(weight, np.tile(LARGEST_INT8 * signs, (rows, 1)))
    for left in hardest(weight):
        wanted = exact(left, 0, weight)
        np.testing.assert_array_equal(saturating(left, 0, weight), wanted)
        np.testing.assert_array_equal(by_onnxruntime(left, 0, weight), wanted)


@pytest.mark.parametrize("batch", [1, 6])
def test_the_largest_weights_and_activations_are_multiplied_as_in_float32(batch):
    """All nodes of a product together, which onnxruntime fuses into one of its own."""
    signs = np.where(np.arange(24) % 3, 1, -1)
    builder = GraphBuilder()
    (made,) = one_product(np.tile(0.3 * signs, (432, 1)).astype(np.float32)).insert_into(builder, {"x": "x"}, ("y",))
    builder("Identity", made, name="y")
    model = builder.model([value("x", np.float32, ["batch", 432])], [value("y", np.float32, ["batch", 24])], {})
    (found,) = session_of(model.SerializeToString()).run(["y"], {"x": np.full((batch, 432), 2, np.float32)})
    np.testing.assert_allclose(found, np.tile(432 * 2 * 0.3 * signs, (batch, 1)), rtol=1e-5)


def test_one_more_would_saturate():
    left, weight = np.full((1, 2), 255, np.uint8), np.full((2, 1), LARGEST_INT8, np.int8)
    assert exact(left, 0, weight) == saturating(left, 0, weight) == 32640
    assert exact(left, 0, weight + 1) == 33150
    assert saturating(left, 0, weight + 1) == INT16.max
