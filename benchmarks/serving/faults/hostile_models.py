"""Model files that carry a valid seal and are hostile: endless graphs, impossible cards, files of others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from glimpse.contract.card import CARD_KEY
from glimpse.contract.seal import SEAL_KEY, seal

MIB = 2**20


def hostile_models(source: Path) -> dict[str, bytes]:
    """Return hostile files by what is wrong with them, each made of a good file and sealed anew.

    Args:
        source: An exported model.
    """
    model = onnx.load(source)
    makers: dict[str, Callable[[onnx.ModelProto], None]] = {
        "a loop of 2^62 turns": _endless_loop,
        "a loop that keeps all it makes": _hoarding_loop,
        "a constant of 2^40 numbers": _huge_constant,
        "weights in another file": _external_weights,
        "10^9 glimpses": _card(num_glimpses=10**9),
        "30,000 x 30,000 pixels": _card(width=30_000, height=30_000),
        "10^12 classes": _card(num_classes=10**12),
        "a class name with an escape sequence": _first_class("\x1b[2Jnine"),
        "a class name of a mebibyte": _first_class("a" * MIB),
        "a card of 200 MiB": _card(data="a" * (200 * MIB)),
    }
    files = {}
    for name, change in makers.items():
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        change(copy)
        _metadata(copy, SEAL_KEY).value = "0" * 64
        files[name] = seal(copy.SerializeToString())
    # Protobuf's own library can't write a text that is no UTF-8: two bytes of a sealed file are changed.
    _first_class("caf__")(model)
    _metadata(model, SEAL_KEY).value = "0" * 64
    files["a class name in Latin-1"] = seal(model.SerializeToString().replace(b"caf__", b"caf\xe9s"))
    return files


def _metadata(model: onnx.ModelProto, key: str) -> Any:
    return next(entry for entry in model.metadata_props if entry.key == key)


def _card(**changes: Any) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        entry = _metadata(model, CARD_KEY)
        entry.value = json.dumps({**json.loads(entry.value), **changes})

    return change


def _first_class(name: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        classes = json.loads(_metadata(model, CARD_KEY).value)["classes"]
        _card(classes=[name, *classes[1:]])(model)

    return change


def _needed(model: onnx.ModelProto, nodes: list[onnx.NodeProto], result: str) -> None:
    """Add nodes to the graph whose result is added to the logits, so that no runtime may leave them out."""
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "logits_before"
    model.graph.node.extend(nodes)
    model.graph.node.append(helper.make_node("ReduceSum", [result], ["sum"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", ["logits_before", "sum"], ["logits"]))


def _loop(turns: int, keeps: bool) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        number = TensorProto.FLOAT
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["goes_on"], ["still"]),
                helper.make_node("Mul", ["value", "half"], ["next_value"]),
                helper.make_node("Expand", ["next_value", "size"], ["kept"]),
            ],
            "turn",
            [
                helper.make_tensor_value_info("turn_number", TensorProto.INT64, []),
                helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("value", number, None),
            ],
            [
                helper.make_tensor_value_info("still", TensorProto.BOOL, []),
                helper.make_tensor_value_info("next_value", number, None),
                *([helper.make_tensor_value_info("kept", number, None)] if keeps else []),
            ],
            [
                numpy_helper.from_array(np.array(0.5, np.float32), "half"),
                numpy_helper.from_array(np.array([MIB, 2]), "size"),
            ],
        )
        outputs = ["slowly", "everything"] if keeps else ["slowly"]
        nodes = [
            helper.make_node("Constant", [], ["turns"], value=numpy_helper.from_array(np.array(turns))),
            helper.make_node("Loop", ["turns", "", "first_location"], outputs, body=body),
        ]
        _needed(model, nodes, "slowly")

    return change


_endless_loop = _loop(2**62, keeps=False)
_hoarding_loop = _loop(2**20, keeps=True)


def _huge_constant(model: onnx.ModelProto) -> None:
    nodes = [
        helper.make_node("Constant", [], ["huge"], value=numpy_helper.from_array(np.array([2**40]))),
        helper.make_node("ConstantOfShape", ["huge"], ["zeros"]),
    ]
    _needed(model, nodes, "zeros")


def _external_weights(model: onnx.ModelProto) -> None:
    """Let the largest weights be read from a file of the system."""
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    size = len(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../../../../../etc/passwd"), ("offset", "0"), ("length", str(size))):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
