"""Weights that take half the room in a file, and compute in float32 all the same.

A float32 number has 24 binary digits of precision, a float16 number 11. Rounding a trained model's weights to 11 costs
next to nothing; computing with 11 costs a place on the image, and a processor time. So the weights are rounded in the
model, whose answers are then measured, and only stored as float16: whoever opens the file casts them once.
"""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

LARGEST = torch.finfo(torch.float16).max
WORTH = 1024
"""Numbers that a tensor needs to have to be stored otherwise; what is smaller weighs nothing."""


class StorageError(ValueError):
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
                "leave --weights out"
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
