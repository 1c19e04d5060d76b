import numpy as np
import onnx
import onnxruntime
import pytest

from glimpse.export.graph.builder import OPSET, GraphBuilder, onnx_type, value

TWO = value("x", np.float32, [2])


def run(model: onnx.ModelProto, **feeds: object) -> list[np.ndarray]:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answers: list[np.ndarray] = session.run(None, feeds)
    return answers


def test_operators_are_called_as_functions():
    builder = GraphBuilder()
    total = builder("Add", "x", builder.floats(1.0, 2.0))
    builder("Mul", total, total, name="y")
    (answer,) = run(builder.model([TWO], [value("y", np.float32, [2])], {}), x=np.array([1, 3], np.float32))
    np.testing.assert_array_equal(answer, [4, 25])


def test_a_node_has_as_many_outputs_as_are_asked_for():
    builder = GraphBuilder()
    first, second = builder.several("Split", ("x", builder.integers(1, 1)), 2, axis=0)
    builder.several("Sub", (second, first), ("y",))
    (answer,) = run(builder.model([TWO], [value("y", np.float32, [1])], {}), x=np.array([1, 3], np.float32))
    assert first != second
    np.testing.assert_array_equal(answer, [2])


def test_an_output_that_is_not_named_gets_a_new_name():
    builder = GraphBuilder()
    names = {
        builder("Neg", "x"),
        builder("Neg", "x"),
        builder.fresh("neg"),
        builder.nested().fresh("neg"),
        builder.fresh("Neg"),
    }
    assert len(names) == 5


def test_equal_constants_are_stored_once_wherever_they_are_used():
    builder = GraphBuilder()
    part = builder.nested()
    assert builder.integers(1, 2) == part.integers(1, 2) == part.nested().constant([1, 2], np.int64)
    assert (
        len(
            {builder.floats(0.0), builder.integers(0), builder.constant(0, np.int64), builder.constant([[0]], np.int64)}
        )
        == 4
    )
    assert builder.floats(0.0) != builder.floats(-0.0), "the sign of a zero is part of it"


def test_a_weight_is_stored_once_under_its_own_name():
    builder = GraphBuilder()
    tensor = onnx.numpy_helper.from_array(np.ones(2, np.float32), "w")
    assert builder.weight(tensor) == builder.nested().weight(tensor) == "w"
    builder("Add", "x", builder("Add", "w", "w"), name="y")
    model = builder.model([TWO], [value("y", np.float32, [2])], {})
    assert [stored.name for stored in model.graph.initializer] == ["w"]
    np.testing.assert_array_equal(run(model, x=np.zeros(2, np.float32))[0], [2, 2])


def test_what_no_node_reads_is_not_stored():
    builder = GraphBuilder()
    builder.floats(7.0)
    builder("Identity", "x", name="y")
    assert len(builder.model([TWO], [value("y", np.float32, [2])], {}).graph.initializer) == 0


def branching() -> onnx.ModelProto:
    """A graph that adds one where asked to, and else answers with a constant of the outermost graph."""
    builder = GraphBuilder()
    branches = []
    for name in ("more", "same"):
        part = builder.nested()
        made = part("Add", "x", part.floats(1.0)) if name == "more" else part("Identity", part.floats(5.0, 6.0))
        branches.append(part.subgraph(name, [value(made, np.float32, [2])]))
    (answer,) = builder.several("If", ("choice",), 1, then_branch=branches[0], else_branch=branches[1])
    builder("Identity", answer, name="y")
    return builder.model([TWO, value("choice", np.bool_, [])], [value("y", np.float32, [2])], {})


@pytest.mark.parametrize(("choice", "expected"), [(True, [2, 4]), (False, [5, 6])])
def test_branches_share_the_constants_of_the_outermost_graph(choice, expected):
    model = branching()
    assert len(model.graph.initializer) == 2
    for attribute in next(node for node in model.graph.node if node.op_type == "If").attribute:
        assert len(attribute.g.initializer) == 0
    (answer,) = run(model, x=np.array([1, 3], np.float32), choice=np.array(choice))
    np.testing.assert_array_equal(answer, expected)


def test_an_input_that_is_stored_has_a_default():
    builder = GraphBuilder()
    builder.weight(onnx.numpy_helper.from_array(np.array([3, 4], np.float32), "x"))
    builder("Neg", "x", name="y")
    model = builder.model([TWO], [value("y", np.float32, [2])], {})
    np.testing.assert_array_equal(run(model)[0], [-3, -4])
    np.testing.assert_array_equal(run(model, x=np.ones(2, np.float32))[0], [-1, -1])


def test_a_model_is_of_the_opset_and_carries_its_texts():
    builder = GraphBuilder()
    builder("Identity", "x", name="y")
    model = builder.model([TWO], [value("y", np.float32, [2])], {"told": "a text"})
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert OPSET == 18
    assert {entry.key: entry.value for entry in model.metadata_props} == {"told": "a text"}


def test_a_free_dimension_has_a_name():
    shape = value("x", np.int64, ["batch", 3]).type.tensor_type
    assert shape.elem_type == onnx.TensorProto.INT64
    assert [(axis.dim_param, axis.dim_value) for axis in shape.shape.dim] == [("batch", 0), ("", 3)]


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("uint8", onnx.TensorProto.UINT8), (np.bool_, onnx.TensorProto.BOOL), (np.float16, onnx.TensorProto.FLOAT16)],
)
def test_types_have_onnxs_numbers(dtype, kind):
    assert onnx_type(dtype) == kind
