"""What torch notes at the nodes of a graph while it traces a model: import paths of classes, and lines of source code.

No runtime reads it. A file without it names no module of this version, and no folder of the machine that wrote it.
"""

from collections.abc import Iterator

import onnx
from torch.export import ExportedProgram


def drop_annotations(model: onnx.ModelProto) -> None:
    """Remove the notes from every node, tensor and graph of a model, in place, those inside of loops as well.

    Args:
        model: What :func:`torch.onnx.export` made, or what was put together of it. Its own properties stay.
    """
    for graph in _graphs(model.graph):
        for holder in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
            del holder.metadata_props[:]
            holder.doc_string = ""


def drop_program_annotations(program: ExportedProgram) -> None:
    """Remove the lines of source code from every node of a program, in place, and shorten classes to their names.

    Which modules a node was traced in stays, for :func:`torch.export.unflatten`.

    Args:
        program: What :func:`torch.export.export` made.
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
