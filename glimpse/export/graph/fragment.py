"""The step of a model as torch exports it: a fragment of a graph that can be inserted as often as there are glimpses.

Exporting the one step and repeating it takes seconds; exporting an unrolled episode took up to a minute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from glimpse.contract.tensors import GLIMPSE, LOCATION, LOGITS, NEXT_LOCATION
from glimpse.export.graph.builder import OPSET, GraphBuilder
from glimpse.models.hard import HardAttention, HardState

BELIEF, GAZE = "belief", "gaze"


@dataclass
class Fragment:
    """Nodes with named inputs and outputs, and the weights they need.

    Attributes:
        inputs: Names of its inputs.
        outputs: Names of its outputs.
        nodes: In topological order.
        weights: By name.
        glimpse_shape: Scales, channels, height and width of the glimpses.
        flattens: Whether it takes glimpses in any shape that holds the same numbers in the same order.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: list[onnx.NodeProto]
    weights: dict[str, onnx.TensorProto]
    glimpse_shape: tuple[int, int, int, int]
    flattens: bool = False

    def insert_into(self, builder: GraphBuilder, inputs: Mapping[str, str], wanted: Sequence[str]) -> tuple[str, ...]:
        """Copy into a graph the nodes that the wanted outputs need; their values get new names.

        Args:
            builder: The graph.
            inputs: For each input of the fragment, the name of its value in the graph.
            wanted: Names of the outputs that are wanted.

        Returns:
            The names of these outputs in the graph.
        """
        names = dict(inputs)
        for node in self._needed(wanted):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = ""
            for index, name in enumerate(node.input):
                copy.input[index] = self._name(builder, names, name)
            for index, name in enumerate(node.output):
                names[name] = builder.fresh(node.op_type)
                copy.output[index] = names[name]
            builder.nodes.append(copy)
        return tuple(names[name] for name in wanted)

    def _name(self, builder: GraphBuilder, names: dict[str, str], name: str) -> str:
        return builder.weight(self.weights[name]) if name in self.weights else names.get(name, name)

    def _needed(self, wanted: Sequence[str]) -> list[onnx.NodeProto]:
        read, needed = set(wanted), []
        for node in reversed(self.nodes):
            if read & set(node.output):
                needed.append(node)
                read |= set(node.input)
        return needed[::-1]

    def reader_of(self, name: str) -> onnx.NodeProto | None:
        """The node that reads a value, where exactly one does and the value is no output; else None."""
        readers = self.readers_of(name)
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def readers_of(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a value."""
        return [node for node in self.nodes if name in node.input]

    def writer_of(self, name: str) -> onnx.NodeProto | None:
        """The node that computes a value; None for an input and a weight."""
        return next((node for node in self.nodes if name in node.output), None)

    def array(self, name: str) -> Any:
        """The numbers of a weight; None where there is no weight of that name."""
        return numpy_helper.to_array(self.weights[name]) if name in self.weights else None

    def store(self, name: str, array: Any) -> str:
        """Store a weight and return its name."""
        self.weights[name] = numpy_helper.from_array(array, name)
        return name


class _StepModule(nn.Module):
    """A step of the hard model and the mode of its policy, with tensors in place of tuples."""

    def __init__(self, model: HardAttention) -> None:
        super().__init__()
        self.model = model

    def forward(self, glimpse: Tensor, location: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        belief, gaze = state if len(state) == 2 else (*state, state[0][:, :0])
        step = self.model(glimpse, location, HardState(belief, gaze))
        policy = self.model.policy
        following = policy.location(policy.mode(step.policy))
        return (step.logits, following, *step.state[: len(state)])


def state_sizes(model: HardAttention) -> tuple[int, ...]:
    """Lengths of the parts of a hard model's state, without the empty ones."""
    return tuple(part.shape[1] for part in model.initial_state(1) if part.shape[1])


def export_step(model: HardAttention, shape: tuple[int, int, int, int]) -> Fragment:
    """Export a hard model's step.

    Args:
        model: The model.
        shape: Scales, channels, height and width of its glimpses.

    Returns:
        The fragment. Its inputs are ``glimpse`` (pixels in [0, 1]), ``location``, ``belief`` and ``gaze``, its outputs
        ``logits``, ``next_location``, ``next_belief`` and ``next_gaze``; there is no gaze where its state is empty.
    """
    parts = (BELIEF, GAZE)[: len(state_sizes(model))]
    inputs = (GLIMPSE, LOCATION, *parts)
    outputs = (LOGITS, NEXT_LOCATION, *(f"next_{part}" for part in parts))
    batch = {0: torch.export.Dim.DYNAMIC}
    device = model.mean.device
    state = tuple(torch.zeros(2, size, device=device) for size in state_sizes(model))
    example = (torch.zeros(2, *shape, device=device), torch.zeros(2, 2, device=device), *state)
    with torch.no_grad():
        program = torch.onnx.export(
            _StepModule(model).eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=(batch, batch, (batch,) * len(state)),
            verbose=False,
        )
    assert program is not None
    return _fragment_of(program.model_proto, shape)


def _fragment_of(model: onnx.ModelProto, shape: tuple[int, int, int, int]) -> Fragment:
    """Make a fragment of a model's graph; nodes that hold a constant become weights."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type != "Constant":
            nodes.append(node)
            continue
        tensor = onnx.TensorProto()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        weights[tensor.name] = tensor
    inputs, outputs = (tuple(entry.name for entry in entries) for entries in (graph.input, graph.output))
    return Fragment(inputs, outputs, nodes, weights, shape)
