"""Fragments that compute with fewer bits: float16 for GPUs, int8 weights for processors.

Locations and the state stay float32: in half precision, a location on a large image is wrong by a pixel.
"""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from glimpse.contract.tensors import NEXT_LOCATION
from glimpse.errors import Argument, ArgumentError
from glimpse.export.graph.fragment import Fragment

MIN_INT8_SIDE = 16
"""Matrices with fewer rows or columns, such as those of locations and of few classes, stay float32: they are small."""
LARGEST_INT8 = 64
"""Largest magnitude of an int8 weight. x86 processors without VNNI instructions add two products of a uint8 and an int8
in an int16 (``pmaddubsw``), which saturates: 2 * 255 * 64 = 32640 still fits, 2 * 255 * 65 does not."""
SMALLEST_SCALE = 1e-30
"""Prevents a division by zero for a column of zeros."""


def to_float16(fragment: Fragment, pixels: str = "float32") -> None:
    """Let a fragment compute in float16, between inputs and outputs in float32; in place.

    The product that computes the next location, and the nodes after it, stay float32.

    Args:
        fragment: Nodes and weights in float32.
        pixels: Type of its inputs; a fragment of uint8 inputs casts them itself.
    """
    exact = _from_last_product(fragment, NEXT_LOCATION)
    in_full = {*fragment.outputs, *(name for node in exact for name in node.input)}
    converted = fragment.inputs if pixels == "float32" else ()
    kept = set(fragment.inputs) - set(converted)
    nodes = [helper.make_node("Cast", [name], [f"{name}_half"], to=TensorProto.FLOAT16) for name in converted]
    for node in fragment.nodes:
        nodes.append(node)
        if any(node is other for other in exact):
            continue
        made = [name for name in node.output if name in in_full]
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = name if name in kept else _half(fragment, name)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            elif attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                halved = numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(numpy_helper.from_array(halved, attribute.t.name))
        if node.op_type == "ConstantOfShape" and not node.attribute:
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float16))))
        nodes += [helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT) for name in made]
    fragment.nodes = nodes
    _forget_unread(fragment)


def _half(fragment: Fragment, name: str) -> str:
    """The name of a value in float16; an omitted optional input and whole numbers keep their name."""
    if name not in fragment.weights:
        return f"{name}_half" if name else name
    if fragment.weights[name].data_type != TensorProto.FLOAT:
        return name
    return fragment.store(f"{name}_half", fragment.array(name).astype(np.float16))


def _from_last_product(fragment: Fragment, output: str) -> list[onnx.NodeProto]:
    """The nodes that compute an output, back to the last products before it."""
    found, names = [], [output]
    while names:
        node = fragment.writer_of(names.pop())
        if node is not None:
            found.append(node)
            names += [] if node.op_type == "Gemm" else node.input
    return found


def _forget_unread(fragment: Fragment) -> None:
    read = {name for node in fragment.nodes for name in node.input}
    fragment.weights = {name: tensor for name, tensor in fragment.weights.items() if name in read}


def to_int8(fragment: Fragment, narrow: int = MIN_INT8_SIDE) -> None:
    """Compute a fragment's matrix products in whole numbers; in place.

    A weight becomes int8 in [-64, 64], symmetric, with a scale for each column. The other factor becomes uint8 at every
    call, with one scale (``DynamicQuantizeLinear``). The rest stays float32. The range of the weights keeps the
    products exact on every processor (``LARGEST_INT8``).

    Args:
        fragment: Nodes and weights in float32.
        narrow: Matrices with fewer rows or columns stay as they are.
    """
    nodes: list[onnx.NodeProto] = []
    for node in fragment.nodes:
        weight = fragment.array(node.input[1]) if node.op_type == "Gemm" else None
        if weight is None or min(weight.shape) < narrow:
            nodes.append(node)
            continue
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        matrix = np.asarray(weight, np.float32).T if transposed else np.asarray(weight, np.float32)
        scale = np.maximum(np.abs(matrix).max(0), SMALLEST_SCALE) / LARGEST_INT8
        name = node.output[0]
        whole = fragment.store(f"{node.input[1]}_int8", np.round(matrix / scale).astype(np.int8))
        scales = fragment.store(f"{node.input[1]}_scale", scale.astype(np.float32))
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
    fragment.nodes = nodes
    _forget_unread(fragment)


LARGEST_FLOAT16 = torch.finfo(torch.float16).max
MIN_STORED_SIZE = 1024
"""Tensors of fewer numbers are always stored as float32: they are small."""


class StorageError(ArgumentError):
    """A weight that can't be stored in the requested type."""


def round_to_float16(model: nn.Module) -> None:
    """Round the parameters of a model to numbers that float16 can hold, in place. They stay float32.

    Args:
        model: The model; its buffers, such as a mean and a standard deviation, stay as they are.

    Raises:
        StorageError: When a weight is larger than float16 can be; the model is left as it was.
    """
    for name, parameter in model.named_parameters():
        if not (parameter.abs() <= LARGEST_FLOAT16).all():
            raise StorageError(
                f"expected weights of at most {LARGEST_FLOAT16:,.0f} in size to store as float16, got another one in "
                f"{name}; leave ",
                Argument("weights"),
                " out",
            )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())


def store_as_float16(model: onnx.ModelProto) -> None:
    """Store those float32 weights of a graph as float16 that float16 represents exactly, in place.

    A Cast to float32 in the outermost graph follows each of them and has the weight's name. onnxruntime folds the casts
    when it loads the file, before it optimises anything else, so that it runs the same graph.

    Args:
        model: A graph; weights that are an input's default stay as they are.
    """
    graph = model.graph
    inputs = {entry.name for entry in graph.input}
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.name in inputs:
            continue
        array = numpy_helper.to_array(tensor)
        if array.size < MIN_STORED_SIZE:
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
