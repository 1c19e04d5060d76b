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
    build = GraphBuilder()
    total = build("Add", "x", build.floats(1.0, 2.0))
    build("Mul", total, total, name="y")
    (answer,) = run(build.model([TWO], [value("y", np.float32, [2])], {}), x=np.array([1, 3], np.float32))
    np.testing.assert_array_equal(answer, [4, 25])


def test_a_node_has_as_many_outputs_as_are_asked_for():
    build = GraphBuilder()
    first, second = build.several("Split", ("x", build.integers(1, 1)), 2, axis=0)
    build.several("Sub", (second, first), ("y",))
    (answer,) = run(build.model([TWO], [value("y", np.float32, [1])], {}), x=np.array([1, 3], np.float32))
    assert first != second
    np.testing.assert_array_equal(answer, [2])


def test_an_output_that_is_not_named_gets_a_new_name():
    build = GraphBuilder()
    names = {build("Neg", "x"), build("Neg", "x"), build.fresh("neg"), build.branch().fresh("neg"), build.fresh("Neg")}
    assert len(names) == 5


def test_equal_constants_are_stored_once_wherever_they_are_used():
    build = GraphBuilder()
    part = build.branch()
    assert build.integers(1, 2) == part.integers(1, 2) == part.branch().constant([1, 2], np.int64)
    assert (
        len({build.floats(0.0), build.integers(0), build.constant(0, np.int64), build.constant([[0]], np.int64)}) == 4
    )
    assert build.floats(0.0) != build.floats(-0.0), "the sign of a zero is part of it"


def test_a_weight_is_stored_once_under_its_own_name():
    build = GraphBuilder()
    tensor = onnx.numpy_helper.from_array(np.ones(2, np.float32), "w")
    assert build.weight(tensor) == build.branch().weight(tensor) == "w"
    build("Add", "x", build("Add", "w", "w"), name="y")
    model = build.model([TWO], [value("y", np.float32, [2])], {})
    assert [stored.name for stored in model.graph.initializer] == ["w"]
    np.testing.assert_array_equal(run(model, x=np.zeros(2, np.float32))[0], [2, 2])


def test_what_no_node_reads_is_not_stored():
    build = GraphBuilder()
    build.floats(7.0)
    build("Identity", "x", name="y")
    assert len(build.model([TWO], [value("y", np.float32, [2])], {}).graph.initializer) == 0


def branching() -> onnx.ModelProto:
    """A graph that adds one where asked to, and else answers with a constant of the outermost graph."""
    build = GraphBuilder()
    branches = []
    for name in ("more", "same"):
        part = build.branch()
        made = part("Add", "x", part.floats(1.0)) if name == "more" else part("Identity", part.floats(5.0, 6.0))
        branches.append(part.subgraph(name, [value(made, np.float32, [2])]))
    (answer,) = build.several("If", ("choice",), 1, then_branch=branches[0], else_branch=branches[1])
    build("Identity", answer, name="y")
    return build.model([TWO, value("choice", np.bool_, [])], [value("y", np.float32, [2])], {})


@pytest.mark.parametrize(("choice", "expected"), [(True, [2, 4]), (False, [5, 6])])
def test_branches_share_the_constants_of_the_outermost_graph(choice, expected):
    model = branching()
    assert len(model.graph.initializer) == 2
    for attribute in next(node for node in model.graph.node if node.op_type == "If").attribute:
        assert len(attribute.g.initializer) == 0
    (answer,) = run(model, x=np.array([1, 3], np.float32), choice=np.array(choice))
    np.testing.assert_array_equal(answer, expected)


def test_an_input_that_is_stored_has_a_default():
    build = GraphBuilder()
    build.weight(onnx.numpy_helper.from_array(np.array([3, 4], np.float32), "x"))
    build("Neg", "x", name="y")
    model = build.model([TWO], [value("y", np.float32, [2])], {})
    np.testing.assert_array_equal(run(model)[0], [-3, -4])
    np.testing.assert_array_equal(run(model, x=np.ones(2, np.float32))[0], [-1, -1])


def test_a_model_is_of_the_opset_and_carries_its_texts():
    build = GraphBuilder()
    build("Identity", "x", name="y")
    model = build.model([TWO], [value("y", np.float32, [2])], {"told": "a text"})
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
