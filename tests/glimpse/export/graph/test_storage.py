import copy
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from glimpse.contract.tensors import GLIMPSE, LOCATION, STATE
from glimpse.export.graph import precision
from glimpse.export.graph.assembly import GraphPlan, assemble
from glimpse.export.graph.passes import simplify
from glimpse.export.graph.precision import (
    LARGEST_FLOAT16,
    MIN_STORED_SIZE,
    StorageError,
    round_to_float16,
    store_as_float16,
)
from glimpse.export.parity import session_of
from tests.glimpse.export.graph.test_fragment import given


def test_weights_become_what_float16_holds_and_stay_float32():
    linear = nn.Linear(5, 4)
    linear.register_buffer("mean", torch.tensor(0.1))
    model = nn.Sequential(linear, nn.BatchNorm1d(4))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    round_to_float16(model)
    for was, parameter in zip(before, model.parameters(), strict=True):
        assert parameter.dtype == torch.float32
        assert parameter.requires_grad
        assert torch.equal(parameter, was.half().float())
    assert not torch.equal(linear.weight, before[0])
    assert torch.equal(model.state_dict()["0.mean"], torch.tensor(0.1))


@pytest.mark.parametrize("number", [70_000.0, float("inf"), float("nan")])
def test_a_weight_that_float16_can_not_hold_is_told_and_nothing_is_rounded(number):
    last = nn.Linear(2, 2)
    with torch.no_grad():
        last.bias[1] = number
    model = nn.Sequential(nn.Linear(3, 2), last)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(StorageError, match=r"at most 65,504 in size .* got another one in 1\.bias; leave weights out"):
        round_to_float16(model)
    assert all(torch.equal(was, model.state_dict()[name]) for name, was in before.items() if name != "1.bias")


def test_the_largest_number_is_held():
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(LARGEST_FLOAT16)
    round_to_float16(model)
    assert model.weight.item() == LARGEST_FLOAT16


def graph_of(stepping: Any, graph: str) -> onnx.ModelProto:
    """A graph of a model whose weights float16 holds, but for those that anything was brought into."""
    fragment = stepping.fragment
    for name, tensor in fragment.weights.items():
        if tensor.data_type == TensorProto.FLOAT:
            fragment.store(name, fragment.array(name).astype(np.float16).astype(np.float32))
    simplify(fragment, 1.0 if graph == "step" else 1 / 255)
    return assemble(GraphPlan(fragment, stepping.state_sizes, stepping.card(graph)))


def feeds(stepping: Any, graph: str, batch: int) -> dict[str, Any]:
    if graph != "step":
        return {"images": stepping.images(batch).numpy()}
    values = given(stepping, batch)
    state = np.concatenate([values[name] for name in ("belief", "gaze") if name in values], 1)
    return {GLIMPSE: values[GLIMPSE], LOCATION: values[LOCATION], STATE: state}


def room(model: onnx.ModelProto) -> int:
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)


@pytest.mark.parametrize("graph", ["episode", "adaptive", "step"])
def test_every_graph_answers_bit_by_bit_as_before_and_is_smaller(stepping, graph, monkeypatch):
    monkeypatch.setattr(precision, "MIN_STORED_SIZE", 1)
    whole = graph_of(stepping, graph)
    halved = onnx.ModelProto()
    halved.CopyFrom(whole)
    store_as_float16(halved)
    onnx.checker.check_model(halved, full_check=True)
    assert room(halved) < 0.85 * room(whole)
    for batch in (1, 4):
        values = feeds(stepping, graph, batch)
        found, wanted = (session_of(model.SerializeToString()).run(None, values) for model in (halved, whole))
        for of_halved, of_whole in zip(found, wanted, strict=True):
            assert of_halved.dtype == of_whole.dtype
            np.testing.assert_array_equal(of_halved, of_whole)


def test_a_default_that_a_caller_may_change_stays_as_it_is(steps, monkeypatch):
    monkeypatch.setattr(precision, "MIN_STORED_SIZE", 1)
    model = graph_of(steps["conv-gru"], "adaptive")
    store_as_float16(model)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    defaults = {entry.name for entry in model.graph.input} & kinds.keys()
    assert STATE in defaults
    assert all(kinds[name] != TensorProto.FLOAT16 for name in defaults)
    assert TensorProto.FLOAT16 in kinds.values()


def one_weight(array: Any) -> onnx.ModelProto:
    weight = numpy_helper.from_array(array, "weight")
    ends = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name in ("a", "b")]
    node = onnx.helper.make_node("Add", ["a", "weight"], ["b"])
    return onnx.helper.make_model(onnx.helper.make_graph([node], "it", ends[:1], ends[1:], [weight]))


@pytest.mark.parametrize("number", [0.1, 1e6, 1e-9, float("nan")])
def test_what_float16_does_not_hold_exactly_stays_as_it_is(number):
    array = np.full(MIN_STORED_SIZE, 0.5, np.float32)
    array[7] = number
    model = one_weight(array)
    before = model.SerializeToString()
    store_as_float16(model)
    assert model.SerializeToString() == before


def test_what_weighs_nothing_stays_as_it_is():
    small, large = (one_weight(np.full(count, 0.5, np.float32)) for count in (MIN_STORED_SIZE - 1, MIN_STORED_SIZE))
    before = small.SerializeToString()
    store_as_float16(small)
    store_as_float16(large)
    assert small.SerializeToString() == before
    assert [node.op_type for node in large.graph.node] == ["Cast", "Add"]
    assert large.graph.initializer[0].data_type == TensorProto.FLOAT16
