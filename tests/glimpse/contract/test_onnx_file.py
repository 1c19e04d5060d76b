from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from glimpse.contract import onnx_file
from glimpse.contract.card import ContractError
from glimpse.contract.onnx_file import read_metadata
from glimpse_serve.models import bundled
from tests.support import hostile, toys


def outside(name: str = "w", place: str = "../../../../etc/hostname") -> Any:
    """A tensor whose numbers lie in another file."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    return tensor


def graph(*nodes: Any, **parts: Any) -> Any:
    return helper.make_graph(list(nodes), "graph", [], [], **parts)


def file(made: Any, change: Callable[[Any], None] = lambda model: None, **properties: str) -> bytes:
    model = helper.make_model(made)
    helper.set_model_props(model, properties)
    change(model)
    written: bytes = model.SerializeToString()
    return written


def within(inner: Any) -> Any:
    return helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=graph())


def of_attribute(**fields: Any) -> Any:
    node = helper.make_node("Constant", [], ["w"])
    attribute = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    for name, value in fields.items():
        field = getattr(attribute, name)
        field.extend(value) if isinstance(value, list) else field.CopyFrom(value)
    return node


def add_function(model: Any) -> None:
    function = helper.make_function("local", "f", [], ["y"], [of_attribute(t=outside())], [])
    model.functions.append(function)


def add_default_of_a_function(model: Any) -> None:
    function = helper.make_function("local", "f", [], ["y"], [], [])
    function.attribute_proto.append(of_attribute(t=outside()).attribute[0])
    model.functions.append(function)


def add_training(model: Any) -> None:
    model.training_info.add().initialization.CopyFrom(graph(initializer=[outside()]))


def without_location() -> Any:
    tensor = outside()
    tensor.ClearField("data_location")
    return tensor


def without_list() -> Any:
    tensor = outside()
    tensor.ClearField("external_data")
    return tensor


HIDDEN = {
    "initializer": file(graph(initializer=[outside()])),
    "no location": file(graph(initializer=[without_location()])),
    "no list": file(graph(initializer=[without_list()])),
    "absolute": file(graph(initializer=[outside(place="/etc/hostname")])),
    "attribute": file(graph(of_attribute(t=outside()))),
    "attribute's list": file(graph(of_attribute(tensors=[outside("a"), outside("b")]))),
    "subgraph": file(graph(within(graph(initializer=[outside()])))),
    "deep attribute": file(graph(within(graph(within(graph(of_attribute(t=outside()))))))),
    "list of graphs": file(graph(of_attribute(graphs=[graph(initializer=[outside()])]))),
    "function": file(graph(), add_function),
    "default of a function": file(graph(), add_default_of_a_function),
    "training": file(graph(), add_training),
    "second graph": file(graph()) + file(graph(initializer=[outside()])),
}


@pytest.mark.parametrize("content", HIDDEN.values(), ids=HIDDEN)
def test_data_in_other_files_are_refused_wherever_they_are_named(content):
    with pytest.raises(ContractError, match="whose tensors lie in another file"):
        read_metadata(content)


def test_sparse_tensors_are_refused_wherever_they_are():
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(1, np.float32), "s"), numpy_helper.from_array(np.zeros(1, np.int64)), [2**33]
    )
    for content in (
        file(graph(sparse_initializer=[sparse])),
        file(graph(of_attribute(sparse_tensor=sparse))),
        file(graph(of_attribute(sparse_tensors=[sparse]))),
    ):
        with pytest.raises(ContractError, match="got a sparse one"):
            read_metadata(content)


def test_operators_of_others_are_refused_with_their_domain():
    for domain in ("com.microsoft", "evil\x1b[2J"):
        with pytest.raises(ContractError, match=r"ONNX itself, got one of the domain '[ce]") as refused:
            read_metadata(file(graph(within(graph(helper.make_node("EPContext", [], ["y"], domain=domain))))))
        assert str(refused.value).isprintable()
    assert read_metadata(file(graph(helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")))) == {}


def test_graphs_within_one_another_have_a_limit():
    inner = graph()
    for _ in range(onnx_file.MAX_GRAPH_DEPTH - 1):
        inner = graph(within(inner))
    read_metadata(file(inner))
    with pytest.raises(ContractError, match="16 graphs within one another, got more"):
        read_metadata(file(graph(within(inner))))


def test_thousands_of_levels_do_not_exhaust_the_stack():
    content = b""
    for _ in range(5000):  # a node with an attribute with a graph, written by hand, since onnx itself gives up
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            content = tag + varint(len(content)) + content
    with pytest.raises(ContractError, match="graphs within one another"):
        read_metadata(b"\x3a" + varint(len(content)) + content)


def test_nodes_and_fields_have_a_limit(monkeypatch):
    content = file(graph(*(helper.make_node("Relu", ["x"], [f"y{place}"]) for place in range(20))))
    assert read_metadata(content) == {}
    monkeypatch.setattr(onnx_file, "MAX_NODES", 19)
    with pytest.raises(ContractError, match="at most 19 nodes"):
        read_metadata(content)
    monkeypatch.setattr(onnx_file, "MAX_FILE_FIELDS", 10)
    with pytest.raises(ContractError, match="at most 10 fields"):
        read_metadata(content)


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, I am a text",
        b"\x3a\x05abc",
        b"\x3a\xff\xff\xff\xff\x7f",
        b"\x3a\xff",
        b"\x08" + b"\xff" * 11,
        b"\x0b\x0c",
        b"\x00\x00",
        b"\x09\x00",
        b"\x3a\x00\x72\x02\x0a\x05",
    ],
)
def test_bytes_that_are_no_fields_are_refused(content):
    with pytest.raises(ContractError, match="no ONNX file, or damaged at byte"):
        read_metadata(content)


def test_a_file_that_is_cut_short_anywhere_is_refused_or_read_without_another_error(tmp_path):
    content = toys.write_toy(tmp_path / "toy.onnx", toys.EPISODE).read_bytes()
    for end in range(0, len(content), 97):
        try:
            read_metadata(content[:end])
        except ContractError:
            continue


def test_metadata_are_those_that_onnx_reads(tmp_path):
    paths = [model.path for model in bundled.models()]
    paths += [toys.write_toy(tmp_path / f"{card.graph}.onnx", card) for card in (toys.ADAPTIVE, toys.STEP)]
    for path in paths:
        read = onnx.load(str(path))
        assert read_metadata(path.read_bytes()) == {entry.key: entry.value for entry in read.metadata_props}


def test_a_key_is_there_once_and_texts_are_utf_8():
    content = file(graph(), card="{}")
    with pytest.raises(ContractError, match=r"each key of the metadata once, got 'card' twice"):
        read_metadata(content + b"\x72\x06\x0a\x04card")
    with pytest.raises(ContractError, match="metadata in UTF-8"):
        read_metadata(content + b"\x72\x05\x0a\x01k\x12\x00\x72\x06\x0a\x01j\x12\x01\xe9")


def test_nothing_outside_is_opened_and_the_runtime_never_sees_the_file(tmp_path, monkeypatch):
    from glimpse.runtime import model_file

    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 16)
    path = tmp_path / "model.onnx"
    made = toys.episode(toys.EPISODE)
    made.graph.initializer.append(outside("extra", place="secret"))
    hostile.resealed(path, made, toys.EPISODE.to_json())
    opened: list[Path] = []
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: opened.append(path))
    with pytest.raises(ContractError, match=r"model\.onnx' \(expected a file that holds all its numbers"):
        model_file.load_model_file(path)
    assert opened == []
