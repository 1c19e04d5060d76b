from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from glimpse.contract.tensors import GLIMPSE, LOCATION, LOGITS, NEXT_LOCATION
from glimpse.export.graph.builder import GraphBuilder, value
from glimpse.export.graph.fragment import Fragment, state_sizes
from glimpse.export.parity import session_of
from glimpse.models.hard import HardState

Numbers = dict[str, npt.NDArray[Any]]


def given(stepping: Any, batch: int) -> Numbers:
    """Random inputs of a step."""
    generator = np.random.default_rng(batch)
    values = {
        GLIMPSE: generator.random((batch, *stepping.glimpse_shape)),
        LOCATION: generator.uniform(-1, 1, (batch, 2)),
        **{
            part: generator.normal(size=(batch, size))
            for part, size in zip(("belief", "gaze"), stepping.state_sizes, strict=False)
        },
    }
    return {name: array.astype(np.float32) for name, array in values.items()}


def expected(stepping: Any, values: Numbers) -> Numbers:
    """What the model makes of them."""
    tensors = {name: torch.from_numpy(array) for name, array in values.items()}
    belief = tensors["belief"]
    with torch.no_grad():
        step = stepping.model(
            tensors[GLIMPSE], tensors[LOCATION], HardState(belief, tensors.get("gaze", belief[:, :0]))
        )
    policy = stepping.model.policy
    found = {LOGITS: step.logits, NEXT_LOCATION: policy.location(policy.mode(step.policy))}
    states = dict(zip(("next_belief", "next_gaze"), step.state, strict=True))
    return {name: array.numpy() for name, array in (found | states).items() if array.shape[1]}


def answers(fragment: Fragment, values: Numbers, times: int = 1) -> Numbers:
    """Put a fragment into a graph, so often in a row, and run it."""
    builder = GraphBuilder()
    names = {name: name for name in fragment.inputs}
    for _ in range(times):
        found = dict(zip(fragment.outputs, fragment.insert_into(builder, names, fragment.outputs), strict=True))
        names |= {LOCATION: found[NEXT_LOCATION]}
        names |= {name.removeprefix("next_"): made for name, made in found.items() if name.startswith("next_")}
    for name, made in found.items():
        builder("Identity", made, name=name)
    inputs = [value(name, np.float32, ["batch", *values[name].shape[1:]]) for name in fragment.inputs]
    outputs = [value(name, np.float32, ["batch", "length"]) for name in fragment.outputs]
    model = builder.model(inputs, outputs, {})
    onnx.checker.check_model(model, full_check=True)
    found_by_run = session_of(model.SerializeToString()).run(list(fragment.outputs), values)
    return dict(zip(fragment.outputs, found_by_run, strict=True))


def agree(found: Numbers, wanted: Numbers, atol: float = 1e-5) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, atol=atol, rtol=1e-5, err_msg=name)


def test_a_step_has_the_models_inputs_and_outputs(stepping):
    fragment = stepping.fragment
    parts = ("belief", "gaze")[: len(stepping.state_sizes)]
    assert fragment.inputs == (GLIMPSE, LOCATION, *parts)
    assert fragment.outputs == (LOGITS, NEXT_LOCATION, *(f"next_{part}" for part in parts))
    assert fragment.glimpse_shape == stepping.glimpse_shape
    assert not fragment.flattens


def test_a_state_without_a_gaze_is_one_part(steps):
    assert state_sizes(steps["conv-gru"].model) == (12, 8)
    assert state_sizes(steps["mlp-lstm"].model) == (24,)
    assert state_sizes(steps["mlp-plain"].model) == (12, 8)


def test_a_step_in_a_graph_is_the_models(stepping):
    for batch in (1, 5):
        values = given(stepping, batch)
        agree(answers(stepping.fragment, values), expected(stepping, values))


def test_a_step_may_be_put_in_again_and_again(stepping):
    values = given(stepping, 3)
    wanted = dict(values)
    for _ in range(3):
        found = expected(stepping, wanted)
        wanted |= {LOCATION: found[NEXT_LOCATION]}
        wanted |= {name.removeprefix("next_"): found[name] for name in found if name.startswith("next_")}
    agree(answers(stepping.fragment, values, times=3), found, atol=1e-4)


def test_its_weights_are_stored_once_however_often_it_is_put_in(stepping):
    fragment, builder = stepping.fragment, GraphBuilder()
    for _ in range(3):
        fragment.insert_into(builder, {name: name for name in fragment.inputs}, fragment.outputs)
    stored = builder.model([], [], {}).graph.initializer
    assert len({tensor.name for tensor in stored}) == len(stored) == len(fragment.weights)


def test_only_what_the_wanted_outputs_need_is_put_in(stepping):
    fragment, whole, part = stepping.fragment, GraphBuilder(), GraphBuilder()
    names = {name: name for name in fragment.inputs}
    fragment.insert_into(whole, names, fragment.outputs)
    (logits,) = fragment.insert_into(part, names, (LOGITS,))
    assert len(part.nodes) < len(whole.nodes) == len(fragment.nodes)
    assert logits == part.nodes[-1].output[0]
    read = {name for node in part.nodes for name in node.input}
    assert not any(name.startswith(("model.gaze", "model.policy")) for name in read)


def test_putting_it_in_leaves_the_piece_as_it_was(stepping):
    fragment = stepping.fragment
    before = [node.SerializeToString() for node in fragment.nodes]
    fragment.insert_into(GraphBuilder(), {name: f"{name}_there" for name in fragment.inputs}, fragment.outputs)
    assert [node.SerializeToString() for node in fragment.nodes] == before


def chain() -> Fragment:
    """Two nodes: a sum that is read twice, and a product of it with itself."""
    nodes = [
        onnx.helper.make_node("Add", ["x", "w"], ["sum"]),
        onnx.helper.make_node("Mul", ["sum", "sum"], ["square"]),
        onnx.helper.make_node("Neg", ["sum"], ["less"]),
    ]
    return Fragment(("x",), ("square", "less"), nodes, {}, (1, 1, 1, 1))


def test_readers_and_writers_of_a_value():
    fragment = chain()
    add, product, less = fragment.nodes
    assert fragment.writer_of("sum") is add
    assert fragment.writer_of("x") is fragment.writer_of("w") is None
    assert fragment.readers_of("sum") == [product, less]
    assert fragment.reader_of("sum") is None
    assert fragment.reader_of("x") is add
    fragment.nodes.remove(less)
    assert fragment.reader_of("sum") is product
    assert Fragment((), ("sum",), fragment.nodes, {}, (1, 1, 1, 1)).reader_of("sum") is None


def test_a_weight_comes_back_as_it_was_stored():
    fragment = chain()
    assert fragment.array("w") is None
    assert fragment.store("w", np.arange(3, dtype=np.float32)) == "w"
    np.testing.assert_array_equal(fragment.array("w"), [0, 1, 2])
