"""Model files that cost too much: whole, sealed, with a card in order, and a graph that somebody has tampered with.

Each is a toy whose probabilities have zero added to them, the result of something expensive.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from glimpse.contract.card import CARD_KEY, ModelCard
from glimpse.contract.seal import SEAL_KEY, seal
from glimpse.contract.tensors import INPUT, PROBABILITIES
from tests.support import toys

ENDLESS = 2**61
"""Turns of a loop."""
TRIGGER = 137
"""Grey value of the brightest pixel at which a loop never ends."""
FIRST_NAME = 10_000
"""Number of the first name that is none of the toy's."""
Costly = Callable[[toys.Draft], str]
"""Adds nodes to a draft, and returns the name of a result that is zero."""


def write(path: Path, costly: Costly, card: ModelCard = toys.EPISODE) -> Path:
    """Write a toy, an episode or a step, whose probabilities need a costly result.

    Args:
        path: The file.
        costly: Adds the costly nodes.
        card: Its card.
    """
    model = {"episode": toys.episode, "step": toys.step, "adaptive": toys.adaptive}[card.graph](card)
    draft = toys.Draft()
    draft.names = ["taken"] * FIRST_NAME
    outcome = costly(draft)
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name == PROBABILITIES:
                node.output[place] = "cheap"
    last = helper.make_node("Add", ["cheap", outcome], [PROBABILITIES])
    nodes = [*draft.nodes, *model.graph.node, last]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(draft.constants)
    return resealed(path, model, card.to_json())


def resealed(path: Path, model: Any, card: str) -> Path:
    """Write a model with a card and a seal, unchecked."""
    helper.set_model_props(model, {SEAL_KEY: "0" * 64, CARD_KEY: card})
    path.write_bytes(seal(model.SerializeToString()))
    return path


def endless_loop(draft: toys.Draft) -> str:
    """A loop that depends on no input."""
    return loop(draft, draft.constant(np.array(ENDLESS)))


def endless_while(draft: toys.Draft) -> str:
    """A loop without a number of turns, whose condition stays true."""
    return loop(draft, "")


def nested_loops(draft: toys.Draft) -> str:
    """Loops of some thousand turns within one another."""
    turns = draft.constant(np.array(100_000))
    return loop(draft, turns, inner=turns)


def loop_over_pixels(draft: toys.Draft) -> str:
    """A loop that never ends when the brightest pixel of the images is ``TRIGGER``."""
    brightest = draft.op("ReduceMax", draft.op("Cast", INPUT, to=TensorProto.FLOAT), keepdims=0)
    alike = draft.op("Equal", brightest, float(TRIGGER))
    return loop(draft, draft.op("Where", alike, np.array(ENDLESS), np.array(1)))


def memory(draft: toys.Draft) -> str:
    """Far more numbers than there is memory for, which are worked out when the file is loaded."""
    return draft.op("ReduceMax", draft.op("ConstantOfShape", np.array([2**38])), keepdims=0)


def memory_in_steps(draft: toys.Draft) -> str:
    """A tensor that doubles again and again, each time within reason."""
    value = draft.op("ConstantOfShape", np.array([2**20]))
    for _ in range(14):
        value = draft.op("Concat", value, value, axis=0)
    return draft.op("ReduceMax", value, keepdims=0)


def loop(draft: toys.Draft, turns: str, inner: str | None = None) -> str:
    """A loop that adds a zero to a zero."""
    within = draft.name()
    body = [helper.make_node("Identity", [f"{within}_on"], [f"{within}_goes_on"])]
    if inner is None:
        body.append(helper.make_node("Add", [f"{within}_sum"] * 2, [f"{within}_next"]))
    else:
        part = toys.Draft(draft)
        found = loop(part, inner)
        body += part.nodes
        body.append(helper.make_node("Add", [f"{within}_sum", found], [f"{within}_next"]))

    def value(name: str, kind: int) -> Any:
        return helper.make_tensor_value_info(f"{within}_{name}", kind, [])

    inputs = [value("turn", TensorProto.INT64), value("on", TensorProto.BOOL), value("sum", TensorProto.FLOAT)]
    outputs = [value("goes_on", TensorProto.BOOL), value("next", TensorProto.FLOAT)]
    yes, zero, outcome = draft.constant(np.array(True)), draft.constant(0.0), draft.name()
    graph = helper.make_graph(body, within, inputs, outputs)
    draft.nodes.append(helper.make_node("Loop", [turns, yes, zero], [outcome], body=graph))
    return outcome
