"""A step that computes with fewer bits: float16 for GPUs, int8 weights for processors.

Places and the numbers handed from one glimpse to the next stay float32: half precision puts a location on a large image
a pixel off.
"""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from glimpse.contract.tensors import NEXT_LOCATION
from glimpse.errors import Argument, ArgumentError
from glimpse.export.graph.fragment import Fragment

NARROW = 16
"""Matrices with fewer rows or columns, those of places and of few classes, stay as they are: they weigh nothing."""
LARGEST_INT8 = 64
"""Largest magnitude of an int8 weight. x86 processors without VNNI instructions add two products of a uint8 and an int8
in an int16 (``pmaddubsw``), which saturates: 2 * 255 * 64 = 32640 still fits, 2 * 255 * 65 does not."""
SMALLEST = 1e-30
"""Keeps a column of zeros from being divided by nothing."""


def to_half(piece: Fragment, pixels: str = "float32") -> None:
    """Have a piece compute in float16, between inputs and outputs in float32; in place.

    The product that the next location comes from, and what follows it, stays float32.

    Args:
        piece: Nodes and weights in float32.
        pixels: Type of its inputs; of uint8 it makes numbers itself.
    """
    exact = _from_last_product(piece, NEXT_LOCATION)
    in_full = {*piece.outputs, *(name for node in exact for name in node.input)}
    given = piece.inputs if pixels == "float32" else ()
    kept = set(piece.inputs) - set(given)
    nodes = [helper.make_node("Cast", [name], [f"{name}_half"], to=TensorProto.FLOAT16) for name in given]
    for node in piece.nodes:
        nodes.append(node)
        if any(node is other for other in exact):
            continue
        made = [name for name in node.output if name in in_full]
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = name if name in kept else _half(piece, name)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            elif attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                halved = numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(numpy_helper.from_array(halved, attribute.t.name))
        if node.op_type == "ConstantOfShape" and not node.attribute:
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float16))))
        nodes += [helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT) for name in made]
    piece.nodes = nodes
    _forget_unread(piece)


def _half(piece: Fragment, name: str) -> str:
    """The name of a value in float16, of an optional input that is left out and of whole numbers their own."""
    if name not in piece.weights:
        return f"{name}_half" if name else name
    if piece.weights[name].data_type != TensorProto.FLOAT:
        return name
    return piece.store(f"{name}_half", piece.array(name).astype(np.float16))


def _from_last_product(piece: Fragment, output: str) -> list[onnx.NodeProto]:
    """The nodes that an output comes from, back to the products before it."""
    found, names = [], [output]
    while names:
        node = piece.writer_of(names.pop())
        if node is not None:
            found.append(node)
            names += [] if node.op_type == "Gemm" else node.input
    return found


def _forget_unread(piece: Fragment) -> None:
    read = {name for node in piece.nodes for name in node.input}
    piece.weights = {name: tensor for name, tensor in piece.weights.items() if name in read}


def to_int8(piece: Fragment, narrow: int = NARROW) -> None:
    """Have a piece's matrix products computed in whole numbers; in place.

    A weight becomes int8 in [-64, 64], symmetric, with a scale for each column; what it is multiplied with becomes
    uint8 at every call, with one scale (``DynamicQuantizeLinear``). The rest stays float32. The range of the weights
    keeps the products exact on every processor (``LARGEST_INT8``).

    Args:
        piece: Nodes and weights in float32.
        narrow: Matrices with fewer rows or columns stay as they are.
    """
    nodes: list[onnx.NodeProto] = []
    for node in piece.nodes:
        weight = piece.array(node.input[1]) if node.op_type == "Gemm" else None
        if weight is None or min(weight.shape) < narrow:
            nodes.append(node)
            continue
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        matrix = np.asarray(weight, np.float32).T if transposed else np.asarray(weight, np.float32)
        scale = np.maximum(np.abs(matrix).max(0), SMALLEST) / LARGEST_INT8
        name = node.output[0]
        whole = piece.store(f"{node.input[1]}_int8", np.round(matrix / scale).astype(np.int8))
        scales = piece.store(f"{node.input[1]}_scale", scale.astype(np.float32))
        quantized = [f"{name}_{part}" for part in ("uint8", "of_uint8", "zero")]
        product, real, both = (f"{name}_{part}" for part in ("product", "real", "scale"))
        biased = len(node.input) == 3
        scaled = f"{name}_scaled" if biased else name
        nodes += [
            helper.make_node("DynamicQuantizeLinear", [node.input[0]], quantized),
            helper.make_node("MatMulInteger", [quantized[0], whole, quantized[2]], [product]),
            helper.make_node("Cast", [product], [real], to=TensorProto.FLOAT),
            helper.make_node("Mul", [quantized[1], scales], [both]),
            helper.make_node("Mul", [real, both], [scaled]),
            *([helper.make_node("Add", [scaled, node.input[2]], [name])] if biased else []),
        ]
    piece.nodes = nodes
    _forget_unread(piece)


LARGEST = torch.finfo(torch.float16).max

WORTH = 1024
"""Numbers that a tensor needs to have to be stored otherwise; what is smaller weighs nothing."""


class StorageError(ArgumentError):
    """A weight that can't be stored as it was asked for."""


def round_weights(model: nn.Module) -> None:
    """Round what a model learnt to numbers that float16 holds, in place. It stays float32.

    Args:
        model: The model; its buffers, such as a mean and a standard deviation, stay as they are.

    Raises:
        StorageError: When a weight is larger than float16 can be; the model is left as it was.
    """
    for name, parameter in model.named_parameters():
        if not (parameter.abs() <= LARGEST).all():
            raise StorageError(
                f"expected weights of at most {LARGEST:,.0f} in size to store as float16, got another one in {name}; "
                "leave ",
                Argument("weights"),
                " out",
            )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())


def store_in_half(model: onnx.ModelProto) -> None:
    """Store as float16 what of a graph's float32 weights float16 holds exactly, in place.

    Behind each stands a Cast to float32 in the outermost graph, under the weight's name. onnxruntime works it out when
    it opens the file, before anything else is done with the weights, so that what it then runs is the same.

    Args:
        model: A graph; weights that are an input's default stay as they are.
    """
    graph = model.graph
    given = {entry.name for entry in graph.input}
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.name in given:
            continue
        array = numpy_helper.to_array(tensor)
        if array.size < WORTH:
            continue
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if np.array_equal(half.astype(np.float32), array):
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_stored"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
