"""The graph of a model without a retina: the whole episode, as torch exports it."""

import onnx
import torch
from jaxtyping import Shaped, UInt8
from onnx import helper
from torch import Tensor, nn

from glimpse.contract.card import ModelCard
from glimpse.contract.tensors import INPUT
from glimpse.export.graph.assembly import metadata
from glimpse.export.graph.builder import OPSET
from glimpse.export.graph.fragment import Fragment
from glimpse.export.graph.precision import to_float16
from glimpse.models.observer import Observer
from glimpse.nn.retina import fractions


class Episode(nn.Module):
    """The deterministic episode as one graph.

    Args:
        observer: The model, and its policy for glimpses.
        temperature: What the logits are divided by before the softmax.
    """

    def __init__(self, observer: Observer, temperature: float = 1.0) -> None:
        super().__init__()
        self.observer = observer
        self.temperature = temperature

    def forward(self, images: Shaped[Tensor, "batch channels height width"]) -> tuple[Tensor, ...]:
        """The outputs of an episode that the model's card names, as :mod:`glimpse.contract.card` describes them."""
        trace = self.observer(images)
        logits = trace.logits if self.temperature == 1 else trace.logits / self.temperature
        outputs = [trace.logits, logits.softmax(2), trace.locations]
        covered = self.observer.boxes(trace.locations, *images.shape[-2:])
        if covered is not None:
            outputs.append(covered)
        if trace.maps is not None:
            outputs.append(trace.maps)
        return tuple(outputs)


def export_whole_episode(
    observer: Observer, card: ModelCard, images: UInt8[Tensor, "batch channels height width"]
) -> onnx.ModelProto:
    """Export a model's episode, unrolled.

    Args:
        observer: The model.
        card: Its card, which describes the input images.
        images: At least 2, to trace it with.
    """
    dimensions = {0: torch.export.Dim("batch", min=1)}
    if card.any_size:
        dimensions |= {2: torch.export.Dim("height", min=1), 3: torch.export.Dim("width", min=1)}
    example = images[:2] if card.input_type == "uint8" else fractions(images[:2])
    with torch.no_grad():
        program = torch.onnx.export(
            Episode(observer, card.temperature).eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(card.outputs),
            dynamic_shapes=(dimensions,),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    if card.precision == "float16":
        _halve(model, card)
    helper.set_model_props(model, metadata(card))
    return model


def _halve(model: onnx.ModelProto, card: ModelCard) -> None:
    """Let a graph compute in float16, in place."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    fragment = Fragment((INPUT,), card.outputs, list(graph.node), weights, (0, 0, 0, 0))
    to_float16(fragment, card.input_type)
    for field in (graph.node, graph.initializer, graph.value_info):
        del field[:]
    graph.node.extend(fragment.nodes)
    graph.initializer.extend(fragment.weights.values())
