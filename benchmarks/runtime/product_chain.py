"""The matrix products of a graph and nothing else, as a graph of its own: what the products alone take is the bound."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from glimpse.export.graph.builder import OPSET

PRODUCTS = ("Gemm", "FusedGemm", "MatMul")
INNER = ("If", "Loop", "Scan")
CUT = 4
"""The products that place the windows take no more numbers in and give no more out; they are not the model's."""
IR_VERSION = 9


class Product(NamedTuple):
    """A matrix product with a stored weight."""

    node: onnx.NodeProto
    weight: onnx.TensorProto
    inputs: int
    """Numbers that it takes in."""
    outputs: int
    """Numbers that it gives."""


class Chain(NamedTuple):
    """The products of a graph, alone.

    Attributes:
        model: The graph. Its one output holds every result that no other product takes.
        feeds: Random numbers for its one input, by name.
        products: How many products there are.
        multiply_accumulates: Of all of them, for one image.
    """

    model: onnx.ModelProto
    feeds: dict[str, npt.NDArray[np.float32]]
    products: int
    multiply_accumulates: int


def optimised(model: onnx.ModelProto, sizes: Mapping[str, int]) -> onnx.ModelProto:
    """What onnxruntime makes of a graph before it runs it: constants computed, branches decided, nodes fused.

    Args:
        model: The graph.
        sizes: What its named dimensions are.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # The layouts of the last level belong to one processor and are no ONNX any more.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    for name, size in sizes.items():
        options.add_free_dimension_override_by_name(name, size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(str(path))


def products_of(model: onnx.ModelProto) -> list[Product]:
    """The matrix products of a model in a graph, in their order: those with a stored weight, without those of the cut.

    Args:
        model: A graph without branches or loops, as :func:`optimised` returns it.

    Raises:
        ValueError: When a branch or a loop is left, whose products can't be counted.
    """
    inner = [node.op_type for node in model.graph.node if node.op_type in INNER]
    if inner:
        raise ValueError(f"expected a straight line of nodes, got {', '.join(inner)}; give every size, or the episode")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type in PRODUCTS and node.input[1] in weights:
            weight = weights[node.input[1]]
            inputs, outputs = reversed(weight.dims) if _transposed(node) else weight.dims
            if max(inputs, outputs) <= CUT:
                continue
            found.append(Product(node, weight, inputs, outputs))
    return found


def multiply_accumulates(products: list[Product]) -> int:
    """Those of all products together, for one image."""
    return sum(product.inputs * product.outputs for product in products)


def chain_of(model: onnx.ModelProto) -> Chain:
    """Take the products out of a graph.

    A product takes the result of the product that the graph gives it, whatever lies between the two, where the widths
    fit; and it adds to the product that it adds to in the graph. Otherwise it has an input of its own, so that no two
    products are the same and merged, and none is a constant and computed beforehand. Biases and activations are left
    out. A ``Split`` hands out the inputs and a ``Concat`` keeps alive the results that no product takes.

    Args:
        model: An optimised graph.

    Raises:
        ValueError: When a branch or a loop is left.
    """
    products = products_of(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    of_product = {product.node.output[0]: place for place, product in enumerate(products)}
    nodes: list[onnx.NodeProto] = []
    inputs: dict[str, int] = {}
    taken: set[str] = set()
    for place, product in enumerate(products):
        before = sorted(_products_before(product.node.input[0], makers, of_product), reverse=True)
        fitting = [other for other in before if products[other].outputs == product.inputs]
        given = [_result(fitting[0]) if fitting else f"input_{place}", product.weight.name]
        if not fitting:
            inputs[given[0]] = product.inputs
        added = of_product.get(product.node.input[2]) if len(product.node.input) > 2 else None
        if added is not None:
            given.append(_result(added))
        taken.update(given)
        if product.node.op_type == "MatMul":
            nodes.append(helper.make_node("MatMul", given, [_result(place)]))
        else:
            transposed = int(_transposed(product.node))
            nodes.append(helper.make_node("Gemm", given, [_result(place)], transB=transposed))
    # One input from outside, as an episode has, since each costs time of its own; one node hands its parts round.
    parts = helper.make_node("Split", ["numbers", "lengths"], list(inputs), axis=1)
    lengths = numpy_helper.from_array(np.array(list(inputs.values())), "lengths")
    nodes.insert(0, parts)
    last = {_result(place): product.outputs for place, product in enumerate(products) if _result(place) not in taken}
    nodes.append(helper.make_node("Concat", list(last), ["results"], axis=1))
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, [1, sum(inputs.values())])],
        [helper.make_tensor_value_info("results", TensorProto.FLOAT, [1, sum(last.values())])],
        [lengths, *{product.weight.name: product.weight for product in products}.values()],
    )
    draw = np.random.default_rng(0)
    return Chain(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION),
        {"numbers": draw.random((1, sum(inputs.values())), np.float32)},
        len(products),
        multiply_accumulates(products),
    )


def _products_before(name: str, makers: Mapping[str, onnx.NodeProto], of_product: Mapping[str, int]) -> Iterator[int]:
    """The products that a value comes from, with no other product between."""
    waiting, seen = [name], set()
    while waiting:
        name = waiting.pop()
        if name in of_product:
            yield of_product[name]
        elif name in makers and name not in seen:
            waiting.extend(makers[name].input)
        seen.add(name)


def _result(place: int) -> str:
    return f"result_{place}"


def _transposed(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
