import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from glimpse import geometry, pixels
from glimpse.contract import CARD_KEY, ContractError, ModelCard
from glimpse.runtime import GlimpseSession

LOCATIONS = np.array([[-0.5, 0.25], [0.5, -0.75]], np.float32)
MAPS = np.array([[[0.5, 0.25, 0], [0.25, 0, 0]], [[0, 0, 0], [0, 0, 1]]], np.float32)
CARD = ModelCard(
    model="hard",
    classes=("dark", "bright"),
    channels=1,
    height=20,
    width=30,
    size_policy="fit",
    num_glimpses=2,
    glimpse_size=4,
    num_scales=2,
    zoom=2,
    has_maps=False,
    any_size=True,
    data="made up",
    recipe={},
    test_error=None,
    versions={},
)

PLAIN_CARD = replace(CARD, model="cnn", glimpse_size=None, num_scales=None, zoom=None)
"""Of a model without a retina and without maps."""
MAP_CARD = replace(PLAIN_CARD, model="soft", has_maps=True)


def write_model(path: Path, card: ModelCard | str | None = CARD, **changes: Any) -> Path:
    """Write a model of the contract's form: it looks at two fixed places and says how bright the whole image is.

    A card without a retina makes a model without boxes, and one with maps a model with two fixed maps.
    """
    made = card if isinstance(card, ModelCard) else CARD
    channels, height, width = (changes.get(name, getattr(CARD, name)) for name in ("channels", "height", "width"))
    input_name, outputs = changes.get("input", "images"), changes.get("outputs", ("logits", "probabilities"))
    boxes = np.stack([np.stack(box, -1) for box in geometry.boxes(LOCATIONS, height, width, 4, 2, 2)], -2)
    constants = {
        "middle": np.array([127.5], np.float32),
        "where": LOCATIONS[None],
        "windows": boxes[None].astype(np.float32),
        "axes": np.array([1, 2, 3]),
        "shape": np.array([-1, 1, 1]),
        "weights": MAPS[None],
        "shape_of_both": np.array([-1, 1, 1, 1]),
        "slopes": np.array([[[-0.1, 0.1], [-0.2, 0.2]]], np.float32),
        "zero": np.zeros(1, np.float32),
    }
    nodes = [
        helper.make_node("Cast", [input_name], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "middle"], ["brightness"]),
        helper.make_node("Reshape", ["brightness", "shape"], ["column"]),
        helper.make_node("Mul", ["column", "slopes"], [outputs[0]]),
        helper.make_node("Softmax", [outputs[0]], [outputs[1]], axis=-1),
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "where"], ["locations"]),
        helper.make_node("Reshape", ["nothing", "shape_of_both"], ["nothing_of_both"]),
        helper.make_node("Add", ["nothing_of_both", "windows"], ["boxes"]),
        helper.make_node("Add", ["nothing_of_both", "weights"], ["maps"]),
    ]
    floats: dict[str, tuple[int, ...]] = {outputs[0]: (2, 2), outputs[1]: (2, 2), "locations": (2, 2)}
    floats |= {name: shape for name, shape in {"boxes": (2, 2, 4), "maps": (2, 2, 3)}.items() if name in made.outputs}
    graph = helper.make_graph(
        nodes,
        "episode",
        [helper.make_tensor_value_info(input_name, TensorProto.UINT8, ["batch", channels, height, width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *tail]) for name, tail in floats.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if card is not None:
        text = card.to_json() if isinstance(card, ModelCard) else card
        helper.set_model_props(model, {CARD_KEY: text})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> GlimpseSession:
    return GlimpseSession(write_model(tmp_path_factory.mktemp("models") / "model.onnx"))


def grey(value: int, height: int = 20, width: int = 30) -> Any:
    return np.full((height, width, 1), value, np.uint8)


def test_the_card_is_read_from_the_file(session):
    assert session.card == CARD


def test_a_batch_gets_probabilities_locations_and_boxes(session):
    prediction = session.predict(np.stack([grey(0), grey(255), grey(200)]))
    assert prediction.probabilities.shape == (3, 2, 2)
    np.testing.assert_allclose(prediction.probabilities.sum(-1), 1, atol=1e-6)
    assert prediction.probabilities[:, -1].argmax(-1).tolist() == [0, 1, 1]
    np.testing.assert_array_equal(prediction.locations, np.stack([LOCATIONS] * 3))
    assert prediction.boxes.shape == (3, 2, 2, 4)


def test_an_image_of_the_models_size_keeps_the_graphs_own_boxes(session):
    canvases = np.stack([grey(0)])
    own, graph = session.predict(canvases), session.run(canvases)
    for name in ("probabilities", "locations", "boxes"):
        np.testing.assert_array_equal(getattr(own, name), getattr(graph, name))


def test_one_image_is_the_first_of_its_batch(session):
    one, batched = session.predict_one(grey(90)), session.predict([grey(90)])
    for name in ("probabilities", "locations", "boxes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(batched, name)[0])


def test_boxes_and_locations_are_in_the_frame_of_the_image_that_was_given(session):
    small, large, tall = session.run(np.stack([grey(0)])), grey(0, 80, 120), grey(0, 40, 20)
    on_large = session.predict_one(large)
    np.testing.assert_allclose(on_large.boxes, small.boxes[0] * 4)
    np.testing.assert_allclose(on_large.locations, LOCATIONS)
    on_tall = session.predict_one(tall)
    place = pixels.placement(40, 20, 20, 30)
    assert place == (10, 0, 10, 20)
    np.testing.assert_allclose(on_tall.boxes, (small.boxes[0] - [10, 0, 10, 0]) * 2)
    pixel = geometry.to_pixels(on_tall.locations, np.array([20, 40]))
    np.testing.assert_allclose(pixel, (geometry.to_pixels(LOCATIONS, np.array([30, 20])) - [10, 0]) * 2, atol=1e-4)


def test_a_model_without_a_retina_has_no_boxes_in_any_frame(tmp_path):
    session = GlimpseSession(write_model(tmp_path / "plain.onnx", PLAIN_CARD))
    for prediction in (session.run(grey(9)[None]), session.predict([grey(9), grey(200, 7, 5)])):
        assert prediction.boxes is None
        assert prediction.maps is None
        np.testing.assert_array_equal(prediction.locations[0], LOCATIONS)
    one = session.predict_one(grey(200, 40, 20))
    assert (one.boxes, one.maps) == (None, None)
    assert one.probabilities.shape == (2, 2)
    np.testing.assert_allclose(one.locations, LOCATIONS * [3, 1], atol=1e-6)


def test_maps_stay_in_the_frame_of_the_canvas_while_locations_move(tmp_path):
    session = GlimpseSession(write_model(tmp_path / "soft.onnx", MAP_CARD))
    prediction = session.predict([grey(0), grey(0, 40, 20)])
    assert prediction.boxes is None
    np.testing.assert_array_equal(prediction.maps, np.stack([MAPS] * 2))
    assert not np.array_equal(*prediction.locations)
    np.testing.assert_array_equal(session.predict_one(grey(0, 40, 20)).maps, MAPS)


def test_a_graph_without_the_maps_that_its_card_promises_is_refused(tmp_path):
    path = write_model(tmp_path / "plain.onnx", PLAIN_CARD)
    model = onnx.load(str(path))
    helper.set_model_props(model, {CARD_KEY: MAP_CARD.to_json()})
    onnx.save(model, path)
    with pytest.raises(ContractError, match=r"expected the outputs \('logits', .*'maps'\), got \('logits'"):
        GlimpseSession(path)


def test_a_retina_is_described_whole_or_not_at_all(tmp_path):
    with pytest.raises(ContractError, match=r"whole numbers of at least 1 in the card, got .*zoom=None"):
        GlimpseSession(write_model(tmp_path / "model.onnx", replace(CARD, zoom=None)))


def test_images_of_several_sizes_and_channels_share_a_batch(session):
    mixed = [grey(255), np.zeros((200, 50, 3), np.uint8), grey(255, 7, 7)]
    together = session.predict(mixed)
    for index, image in enumerate(mixed):
        alone = session.predict_one(image)
        for name in ("probabilities", "locations", "boxes"):
            np.testing.assert_allclose(getattr(together, name)[index], getattr(alone, name), atol=1e-6)


def test_threads_may_share_a_session(session):
    images = [grey(value) for value in range(0, 256, 16)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(session.predict_one, images))
    for image, prediction in zip(images, found, strict=True):
        np.testing.assert_array_equal(prediction.probabilities, session.predict_one(image).probabilities)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (grey(0), r"expected a batch .* got shape \(20, 30, 1\); hand a single image to predict_one"),
        ([], "expected at least one image, got none"),
        (np.zeros((0, 20, 30, 1), np.uint8), "expected at least one image, got none"),
        ([grey(0), grey(0) / 255], r"expected image 1 as a uint8 array .* got float64 .* scale values to 0\.\.255"),
        ([grey(0)[..., 0]], r"expected image 0 .* got shape \(20, 30\); a grey image needs a last axis of 1"),
    ],
)
def test_what_are_no_images_is_refused(session, images, sentence):
    with pytest.raises(pixels.ImageError, match=sentence):
        session.predict(images)


def test_one_image_that_is_none_is_refused(session):
    with pytest.raises(pixels.ImageError, match=r"expected the image as a uint8 array .* got shape \(20, 30, 4\)"):
        session.predict_one(np.zeros((20, 30, 4), np.uint8))


@pytest.mark.parametrize(
    ("canvases", "came"),
    [
        (np.zeros((1, 30, 20, 1), np.uint8), r"uint8 \(1, 30, 20, 1\)"),
        (np.zeros((0, 20, 30, 1), np.uint8), r"uint8 \(0, 20, 30, 1\)"),
        (np.zeros((1, 20, 30, 1), np.float32), r"float32 \(1, 20, 30, 1\)"),
        (np.zeros((1, 20, 30, 1), np.int64), r"int64 \(1, 20, 30, 1\)"),
    ],
)
def test_canvases_of_another_size_or_type_are_refused(session, canvases, came):
    with pytest.raises(
        pixels.ImageError, match=rf"expected uint8 canvases of shape \(batch, 20, 30, 1\).* got {came}; put images onto"
    ):
        session.run(canvases)


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(
        ContractError, match=r"gone\.onnx': no such file; expected an ONNX file written by 'glimpse exp"
    ):
        GlimpseSession(tmp_path / "gone.onnx")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(ContractError, match="a directory; expected an ONNX file"):
        GlimpseSession(tmp_path)


@pytest.mark.parametrize("start", [b"PK\x03\x04 zipped tensors", b"\x80\x04\x95 pickled code"])
def test_a_checkpoint_is_refused_without_being_opened(tmp_path, start):
    path = tmp_path / "last.ckpt"
    path.write_bytes(start)
    with pytest.raises(
        ContractError, match=r"last\.ckpt' is a checkpoint or pickled code.*'glimpse export CHECKPOINT'"
    ):
        GlimpseSession(path)


@pytest.mark.parametrize("data", [b"", b"hello, I am a text", bytes(range(64)) * 10])
def test_what_is_no_onnx_file_is_refused(tmp_path, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ContractError, match=r"can't load the model .*model\.onnx' .*expected an ONNX file written by"):
        GlimpseSession(path)


def test_a_truncated_model_is_refused(tmp_path):
    path = write_model(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ContractError, match="can't load the model"):
        GlimpseSession(path)


def test_an_onnx_file_without_its_card_is_refused(tmp_path):
    path = write_model(tmp_path / "model.onnx", card=None)
    with pytest.raises(ContractError, match=r"model\.onnx' has no model card \(metadata key 'glimpse\.card'\)"):
        GlimpseSession(path)


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        ("{", "card is no valid JSON"),
        (json.dumps({"schema_version": 7}), "schema version 2, got 7"),
        (replace(CARD, zoom=0), "whole numbers of at least 1 in the card, got .*zoom=0"),
        (replace(CARD, size_policy="stretch"), "size_policy='stretch'.* use a version of Glimpse that knows"),
        (replace(CARD, channels=2), "channels=2"),
        (replace(CARD, classes=()), "0 classes"),
        (replace(CARD, height=21), "expected one input 'images' .*21, 30.* as its card says, got .*20, 30"),
        (replace(CARD, channels=3), "expected one input 'images' .*3, 20, 30"),
        (replace(CARD, classes=("a", "b", "c")), "its card names 3 classes, but its probabilities have the shape"),
    ],
)
def test_a_card_that_is_wrong_is_refused_by_file(tmp_path, card, sentence):
    path = write_model(tmp_path / "model.onnx", card)
    with pytest.raises(ContractError, match=r"model\.onnx'.*" + sentence):
        GlimpseSession(path)


def test_a_graph_with_other_names_is_refused(tmp_path):
    with pytest.raises(ContractError, match=r"expected one input 'images' .*got {'pictures'"):
        GlimpseSession(write_model(tmp_path / "input.onnx", input="pictures"))
    with pytest.raises(ContractError, match=r"expected the outputs \('logits', 'probabilities', .* got \('scores',"):
        GlimpseSession(write_model(tmp_path / "outputs.onnx", outputs=("scores", "probabilities")))


def test_no_threads_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1 thread, got 0"):
        GlimpseSession(tmp_path / "model.onnx", threads=0)
