"""Removal of the annotations that torch adds to a graph while it traces a model.

These are import paths of classes and lines of source code, which no runtime reads. A file without them names no module
of this version, and no folder of the machine that wrote it.
"""

from collections.abc import Iterator

import onnx
from torch.export import ExportedProgram


def drop_annotations(model: onnx.ModelProto) -> None:
    """Remove the annotations of every node, tensor and graph of a model, in place, also within loops and branches.

    Args:
        model: The result of :func:`torch.onnx.export`, or a graph assembled from it. The model's own metadata stay.
    """
    for graph in _graphs(model.graph):
        for holder in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
            del holder.metadata_props[:]
            holder.doc_string = ""


def drop_program_annotations(program: ExportedProgram) -> None:
    """Remove the lines of source code from every node of a program, in place, and shorten classes to their names.

    The modules that a node was traced in stay named, as :func:`torch.export.unflatten` needs them.

    Args:
        program: The result of :func:`torch.export.export`.
    """
    for node in program.graph.nodes:
        for note in ("stack_trace", "source_fn_stack", "torch_fn"):
            node.meta.pop(note, None)
        stack = node.meta.get("nn_module_stack")
        if stack:
            node.meta["nn_module_stack"] = {
                key: (place, str(kind).rpartition(".")[2]) for key, (place, kind) in stack.items()
            }


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)
