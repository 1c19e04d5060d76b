import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from glimpse.contract.tensors import GLIMPSE, LOCATION, LOGITS, NEXT_LOCATION, PROBABILITIES
from glimpse.export.graph.assembly import GraphPlan, assemble
from glimpse.export.graph.fragment import Fragment
from glimpse.export.graph.passes import simplify
from glimpse.export.graph.precision import LARGEST_INT8, MIN_INT8_SIDE, to_float16, to_int8
from glimpse.export.parity import session_of
from tests.glimpse.export.graph.test_fragment import agree, answers, expected, given


def simplified(stepping) -> Fragment:
    fragment: Fragment = stepping.fragment
    simplify(fragment, 1.0)
    return fragment


def stored(fragment: Fragment, *kinds: int) -> int:
    """Bytes of the weights of some types."""
    return sum(
        numpy_helper.to_array(tensor).nbytes for tensor in fragment.weights.values() if tensor.data_type in kinds
    )


@pytest.mark.parametrize("unit", [1 / 255, 1.0])
@pytest.mark.parametrize("convert", [to_float16, to_int8])
def test_bytes_and_fractions_are_converted_alike(stepping, convert, unit):
    fragment, values = stepping.fragment, given(stepping, 30)
    simplify(fragment, unit)
    convert(fragment)
    in_unit = {**values, GLIMPSE: np.round(values[GLIMPSE] * 255).astype(np.float32) * np.float32(1 / 255 / unit)}
    found, wanted = answers(fragment, in_unit)[LOGITS], expected(stepping, values)[LOGITS]
    assert np.abs(found - wanted).mean() < (0.02 if convert is to_float16 else 0.1) * np.abs(wanted).mean()


@pytest.mark.parametrize("fewer_nodes", [True, False])
def test_half_precision_answers_in_float32_and_nearly_the_same(stepping, fewer_nodes):
    fragment = simplified(stepping) if fewer_nodes else stepping.fragment
    to_float16(fragment)
    for batch in (1, 6):
        values = given(stepping, batch)
        found, wanted = answers(fragment, values), expected(stepping, values)
        assert all(array.dtype == np.float32 for array in found.values())
        scale = max(float(np.abs(array).max()) for array in wanted.values())
        if stepping.options.get("policy") == "grid":
            found.pop(NEXT_LOCATION), wanted.pop(NEXT_LOCATION)
        agree(found, wanted, atol=5e-3 * scale)


def test_half_precision_takes_half_the_room(stepping):
    whole, half = simplified(stepping), simplified(stepping)
    to_float16(half)
    floats = stored(whole, TensorProto.FLOAT)
    assert stored(half, TensorProto.FLOAT16) + stored(half, TensorProto.FLOAT) < 0.6 * floats
    assert stored(half, TensorProto.FLOAT16) > 0.4 * floats
    assert stored(half, TensorProto.INT64) == stored(whole, TensorProto.INT64)


def test_in_half_precision_a_gaze_that_rests_stays_where_it_is(steps):
    stepping = steps["conv-gru"]
    fragment = simplified(stepping)
    for name in ("model.policy.mean.weight", "model.policy.mean.bias"):
        fragment.store(name, np.zeros_like(fragment.array(name)))
    to_float16(fragment)
    values = given(stepping, 50)
    np.testing.assert_array_equal(answers(fragment, values)[NEXT_LOCATION], values[LOCATION])


def test_in_half_precision_the_middles_of_a_grids_cells_are_where_they_were(steps):
    stepping = steps["mlp-lstm"]
    fragment = simplified(stepping)
    to_float16(fragment)
    found = answers(fragment, given(stepping, 20))[NEXT_LOCATION]
    centres = stepping.model.policy.centres.numpy()
    assert (np.abs(found[:, None] - centres[None]).max(2).min(1) == 0).all()


def test_int8_weights_have_a_scale_for_each_column(stepping):
    fragment = simplified(stepping)
    products = [node for node in fragment.nodes if node.op_type == "Gemm" and node.input[1] in fragment.weights]
    to_int8(fragment, narrow=1)
    whole = {name: tensor for name, tensor in fragment.weights.items() if tensor.data_type == TensorProto.INT8}
    assert len(whole) == len({node.input[1] for node in products})
    for name, tensor in whole.items():
        numbers = numpy_helper.to_array(tensor).astype(int)
        scale = fragment.array(name.removesuffix("_int8") + "_scale")
        assert scale.shape == numbers.shape[1:]
        assert (np.abs(numbers).max(0) <= LARGEST_INT8).all()
        assert name.removesuffix("_int8") not in fragment.weights


def test_int8_weights_are_the_nearest_to_the_models(steps):
    stepping = steps["mlp-plain"]
    fragment = stepping.fragment
    to_int8(fragment, narrow=1)
    name = "model.classifier.weight"
    near = fragment.array(f"{name}_int8").astype(np.float32) * fragment.array(f"{name}_scale")
    weight = stepping.model.classifier.weight.detach().numpy().T
    assert np.abs(near - weight).max() <= np.abs(weight).max() / LARGEST_INT8 / 2 * 1.001


def test_int8_products_nearly_agree_and_mostly_keep_the_label(stepping):
    fragment = simplified(stepping)
    to_int8(fragment, narrow=1)
    for batch in (1, 40):
        values = given(stepping, batch)
        found, wanted = answers(fragment, values), expected(stepping, values)
        assert all(array.dtype == np.float32 for array in found.values())
        distance = np.abs(found[LOGITS] - wanted[LOGITS]).mean()
        assert distance < 0.1 * np.abs(wanted[LOGITS]).mean()
    assert (found[LOGITS].argmax(1) == wanted[LOGITS].argmax(1)).mean() >= 0.85


def test_int8_takes_about_a_quarter_of_the_room_of_what_it_converts(steps):
    for name in ("mlp-gru", "mlp-lstm", "mlp-plain"):
        whole, small = simplified(steps[name]), simplified(steps[name])
        to_int8(small, narrow=1)
        assert stored(small, TensorProto.FLOAT, TensorProto.INT8) < 0.5 * stored(whole, TensorProto.FLOAT)


def test_narrow_matrices_stay_as_they_are(steps):
    stepping = steps["mlp-gru"]
    fragment = simplified(stepping)
    shapes = {name: fragment.array(name).shape for name in fragment.weights}
    to_int8(fragment)
    assert sum(name.endswith("_int8") for name in fragment.weights) > 0
    for name, tensor in fragment.weights.items():
        if tensor.data_type == TensorProto.INT8:
            assert min(shapes[name.removesuffix("_int8")]) >= MIN_INT8_SIDE


def test_a_column_of_zeros_stays_one(steps):
    stepping = steps["mlp-plain"]
    fragment = stepping.fragment
    weight = fragment.array("model.classifier.weight").copy()
    weight[2] = 0
    fragment.store("model.classifier.weight", weight)
    to_int8(fragment, narrow=1)
    found = answers(fragment, given(stepping, 3))[LOGITS]
    np.testing.assert_allclose(found[:, 2], stepping.model.classifier.bias[2].item(), rtol=1e-6)


@pytest.mark.parametrize("convert", [to_float16, to_int8])
@pytest.mark.parametrize("graph", ["episode", "adaptive", "step"])
def test_every_graph_can_be_made_of_it(stepping, convert, graph):
    fragment = stepping.fragment
    simplify(fragment, 1.0 if graph == "step" else 1 / 255)
    convert(fragment)
    model = assemble(GraphPlan(fragment, stepping.state_sizes, stepping.card(graph, target="gpu")))
    session = session_of(model.SerializeToString())
    assert all(entry.type in ("tensor(float)", "tensor(int64)") for entry in session.get_outputs())
    if graph == "step":
        values = given(stepping, 3)
        state = np.concatenate([values[name] for name in ("belief", "gaze") if name in values], 1)
        feeds = {GLIMPSE: values[GLIMPSE], LOCATION: values[LOCATION], "state": state}
    else:
        feeds = {"images": stepping.images(3).numpy()}
    (found,) = session.run([PROBABILITIES], feeds)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
