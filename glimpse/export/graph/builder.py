"""A builder of ONNX graphs, node by node, which stores each constant and each weight once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

OPSET = 18
IR_VERSION = 9


class GraphBuilder:
    """The nodes of one graph, or of a branch or a loop's body within it.

    An operator is called like a function: ``builder("Add", a, b)`` adds the node and returns the name of its output.

    Args:
        parent: The graph that this one is part of. The outermost graph stores the constants and weights of all.
    """

    def __init__(self, parent: "GraphBuilder | None" = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._outermost: GraphBuilder = parent._outermost if parent else self
        self._weights: dict[str, onnx.TensorProto] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def __call__(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output.

        Args:
            operator: The operator's name.
            inputs: Names of its inputs; empty where one is left out.
            name: Of its output; a new one when left out.
            attributes: The operator's.
        """
        return self.several(operator, inputs, (name or self.fresh(operator),), **attributes)[0]

    def several(
        self, operator: str, inputs: Sequence[str], outputs: int | Sequence[str], **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with several outputs.

        Args:
            operator: The operator's name.
            inputs: Names of its inputs.
            outputs: How many outputs, or their names.
            attributes: The operator's.
        """
        names = tuple(self.fresh(operator) for _ in range(outputs)) if isinstance(outputs, int) else tuple(outputs)
        self.nodes.append(helper.make_node(operator, list(inputs), list(names), **attributes))
        return names

    def fresh(self, hint: str) -> str:
        """A name that nothing else has."""
        outermost = self._outermost
        outermost._count += 1
        return f"{hint.lower()}_{outermost._count}"

    def constant(self, value: Any, dtype: npt.DTypeLike) -> str:
        """A constant; equal ones are stored once.

        Args:
            value: Its numbers.
            dtype: Their type.
        """
        array = np.array(value, dtype, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        constants = self._outermost._constants
        if key not in constants:
            constants[key] = self.fresh("constant")
            self.weight(numpy_helper.from_array(array, constants[key]))
        return constants[key]

    def integers(self, *values: int) -> str:
        """A constant vector of int64."""
        return self.constant(values, np.int64)

    def floats(self, *values: float) -> str:
        """A constant vector of float32."""
        return self.constant(values, np.float32)

    def weight(self, tensor: onnx.TensorProto) -> str:
        """Store a tensor under its own name, once."""
        self._outermost._weights.setdefault(tensor.name, tensor)
        return str(tensor.name)

    def nested(self) -> "GraphBuilder":
        """A builder of a graph within this one: a branch, or a loop's body."""
        return GraphBuilder(self)

    def subgraph(
        self,
        name: str,
        outputs: Sequence[onnx.ValueInfoProto],
        inputs: Sequence[onnx.ValueInfoProto] = (),
    ) -> onnx.GraphProto:
        """The nodes as an attribute of an ``If`` or a ``Loop``."""
        return helper.make_graph(self.nodes, name, list(inputs), list(outputs))

    def model(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        metadata: dict[str, str],
    ) -> onnx.ModelProto:
        """Make a model of the graph.

        Args:
            inputs: Its inputs; a stored tensor of the same name is an input's default.
            outputs: Its outputs.
            metadata: Texts by key, which the file carries.
        """
        used = _used(self.nodes) | {value.name for value in inputs}
        stored = [tensor for name, tensor in self._weights.items() if name in used]
        graph = helper.make_graph(self.nodes, "glimpse", list(inputs), list(outputs), stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        helper.set_model_props(model, metadata)
        return model


def value(name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """Describe an input or an output.

    Args:
        name: Its name.
        dtype: Its type.
        shape: Its dimensions; a free one has a name.
    """
    return helper.make_tensor_value_info(name, onnx_type(dtype), list(shape))


def onnx_type(dtype: npt.DTypeLike) -> int:
    """ONNX's number of a type."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _used(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """Names that nodes read, those within their branches and bodies among them."""
    found: set[str] = set()
    for node in nodes:
        found.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= _used(attribute.g.node) | {output.name for output in attribute.g.output}
    return found
