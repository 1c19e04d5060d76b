import inspect
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from glimpse.contract.card import ModelCard
from glimpse.images import geometry, pixels
from glimpse.images.lazy import ArrayImage
from glimpse.runtime import session as session_module
from glimpse.runtime.limits import LimitError
from glimpse.runtime.session import GlimpseSession
from tests.support import toys
from tests.support.toys import LIMITS, alike, noise, write_sealed, write_toy

LOCATIONS = np.array([[-0.5, 0.25], [0.5, -0.75]], np.float32)
MAPS = np.array([[[0.5, 0.25, 0], [0.25, 0, 0]], [[0, 0, 0], [0, 0, 1]]], np.float32)
CARD = ModelCard(
    model="hard",
    graph="episode",
    classes=("dark", "bright"),
    channels=1,
    height=20,
    width=30,
    num_glimpses=2,
    glimpse_size=4,
    num_scales=2,
    zoom=2,
    has_maps=False,
    any_size=True,
    data="made up",
    recipe={},
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
    sides = changes.get("sides", ["height", "width"] if made.any_size else [height, width])
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
    } | {name: np.zeros((1, 2), np.float32) for name in made.options}
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
        [
            helper.make_tensor_value_info(input_name, TensorProto.UINT8, ["batch", channels, *sides]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["one", 2]) for name in made.options),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *tail]) for name, tail in floats.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return write_sealed(path, model, card.to_json() if isinstance(card, ModelCard) else card)


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> GlimpseSession:
    return GlimpseSession(write_model(tmp_path_factory.mktemp("models") / "model.onnx"))


def unchecked(method: Any) -> Any:
    """A method without the types that are checked at every call under pytest, and only there."""
    return inspect.unwrap(method)


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


def test_a_model_without_a_retina_takes_native_images_as_a_whole(tmp_path):
    session = GlimpseSession(write_model(tmp_path / "soft.onnx", MAP_CARD))
    images = [grey(0, 40, 20), ArrayImage(grey(255, 7, 5)), grey(200, 3, 3)]
    prediction = session.predict(images, size="native")
    assert prediction.probabilities[:, -1].argmax(-1).tolist() == [0, 1, 1]
    np.testing.assert_array_equal(prediction.locations, np.stack([LOCATIONS] * 3))
    np.testing.assert_array_equal(prediction.maps, np.stack([MAPS] * 3))
    np.testing.assert_array_equal(prediction.glimpses, [2, 2, 2])
    for glance in session.scan(images[1]):
        np.testing.assert_array_equal(glance.map, MAPS[glance.time])


def test_maps_stay_in_the_frame_of_the_canvas_while_locations_move(tmp_path):
    session = GlimpseSession(write_model(tmp_path / "soft.onnx", MAP_CARD))
    prediction = session.predict([grey(0), grey(0, 40, 20)])
    assert prediction.boxes is None
    np.testing.assert_array_equal(prediction.maps, np.stack([MAPS] * 2))
    assert not np.array_equal(*prediction.locations)
    np.testing.assert_array_equal(session.predict_one(grey(0, 40, 20)).maps, MAPS)


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
        (None, r"expected an array \(batch, .* or a list of images, got NoneType; hand a single image to predict_one"),
        ((grey(0) for _ in range(2)), "a list of images, got generator; .* what a generator yields as a list"),
        (ArrayImage(grey(0)), "a list of images, got ArrayImage; hand a single image to predict_one"),
        ("cat.png", "expected image 0 as a uint8 array .* got str; decode a file"),
        ([grey(0)[..., 0]], r"expected image 0 .* got shape \(20, 30\); a grey image needs a last axis of 1"),
    ],
)
def test_what_are_no_images_is_refused(session, images, sentence):
    with pytest.raises(pixels.ImageError, match=sentence):
        unchecked(GlimpseSession.predict)(session, images)


def test_a_list_of_canvases_is_refused(session):
    with pytest.raises(pixels.ImageError, match=r"expected canvases as one array .* got list; .* with np\.stack"):
        unchecked(GlimpseSession.run)(session, [grey(0)])


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


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> dict[str, GlimpseSession]:
    return toys.sessions(tmp_path_factory.mktemp("toys"))


@pytest.mark.parametrize("limit", LIMITS, ids=str)
@pytest.mark.parametrize("graph", ["adaptive", "step"])
def test_every_kind_of_graph_answers_alike(kinds, graph, limit):
    canvases = noise(9, 20, 30, 1)
    alike(kinds[graph].run(canvases, **limit), kinds["episode"].run(canvases, **limit))
    alike(kinds[graph].predict(canvases, **limit), kinds["episode"].run(canvases, **limit))
    mixed = [noise(40, 20, 3), canvases[0], noise(7, 50, 1)]
    alike(kinds[graph].predict(mixed, **limit), kinds["episode"].predict(mixed, **limit))


@pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
def test_one_image_says_how_many_glimpses_it_took_and_why(kinds, graph):
    image = noise(50, 50, 1, seed=4)
    one = kinds[graph].predict_one(image, max_glimpses=2)
    assert (one.glimpses, one.reasons) == (2, "budget")
    assert one.probabilities.shape == (2, 3)
    sure = kinds[graph].predict_one(image, confidence=float(one.probabilities[0].max()))
    assert (sure.glimpses, sure.reasons) == (1, "confident")


def test_an_episode_refuses_a_limited_time(kinds):
    for answer in (kinds["episode"].run, kinds["episode"].predict):
        with pytest.raises(ValueError, match=r"an episode graph takes all its glimpses at once.* --graph adaptive"):
            answer(noise(1, 20, 30, 1), seconds=1.0)
    with pytest.raises(ValueError, match="export the model with 'glimpse export --graph adaptive'"):
        kinds["episode"].scan(noise(20, 30, 1), seconds=1.0)


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        ({"max_glimpses": 0}, "expected max_glimpses from 1 to 5.* got 0"),
        ({"max_glimpses": 6}, "expected max_glimpses from 1 to 5.* trained to take, got 6"),
        ({"confidence": 0.0}, r"expected a confidence above 0 and up to 1, got 0\.0"),
        ({"confidence": 1.5}, r"got 1\.5; it is the probability"),
        ({"confidence": float("nan")}, "confidence above 0 and up to 1, got nan"),
        ({"seconds": 0.0}, r"expected more than 0 seconds, got 0\.0"),
        ({"seconds": float("nan")}, "expected more than 0 seconds, got nan"),
    ],
)
def test_limits_out_of_their_range_are_refused_before_anything_is_looked_at(kinds, limit, sentence):
    session = kinds["adaptive"]
    for answer, given in (
        (session.run, noise(1, 20, 30, 1)),
        (session.predict, noise(1, 20, 30, 1)),
        (session.predict_one, noise(20, 30, 1)),
        (session.scan, noise(20, 30, 1)),
    ):
        with pytest.raises(ValueError, match=sentence):
            answer(given, **limit)


def test_sizes_that_go_with_no_image_are_refused(kinds):
    session, image = kinds["adaptive"], noise(20, 30, 1)
    with pytest.raises(ValueError, match="expected a size of 'fit' or 'native', got 'stretch'"):
        session.predict_one(image, size="stretch")
    with pytest.raises(pixels.ImageError, match="expected arrays to fit onto the model's canvas, got a lazy image"):
        session.scan(ArrayImage(image), size="fit")
    with pytest.raises(pixels.ImageError, match=r"got 1 lazy or mapped ones out of 2; .*'native'"):
        session.predict([ArrayImage(image), image])


def test_a_graph_for_one_size_takes_no_native_images(tmp_path):
    session = GlimpseSession(write_toy(tmp_path / "toy.onnx", replace(toys.EPISODE, any_size=False)))
    assert session.predict_one(noise(50, 50, 1)).glimpses == 5
    with pytest.raises(pixels.ImageError, match="this model's graph takes 30 x 20 pixels and nothing else"):
        session.predict_one(noise(50, 50, 1), size="native")
    step = GlimpseSession(write_toy(tmp_path / "step.onnx", replace(toys.STEP, any_size=False)))
    assert step.predict_one(noise(50, 50, 1), size="native").glimpses == 5


@pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
def test_a_float32_model_takes_both_kinds_of_pixels(tmp_path, kinds, graph):
    card = replace(kinds[graph].card, input_type="float32")
    session = GlimpseSession(write_toy(tmp_path / "toy.onnx", card))
    image = noise(20, 30, 1)
    scaled = (image / 255).astype(np.float32)
    expected = kinds[graph].predict_one(image)
    for found in (session.predict_one(image), session.predict_one(scaled), session.predict_one(scaled, size="native")):
        alike(found, expected)
    alike(session.run(scaled[None]), kinds[graph].run(image[None]))


def test_a_session_says_where_it_came_from(tmp_path):
    path = write_toy(tmp_path / "toy.onnx", toys.ADAPTIVE)
    session = GlimpseSession(str(path), warm_up=False)
    assert (session.path, session.provider) == (path, "cpu")
    assert len(session.sha256) == 64
    assert session.sha256.encode() in path.read_bytes()


@pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
def test_threads_with_limits_of_their_own_do_not_disturb_one_another(tmp_path, graph):
    cards = {card.graph: card for card in (toys.ADAPTIVE, toys.EPISODE, toys.STEP)}
    session = GlimpseSession(write_toy(tmp_path / "toy.onnx", cards[graph]))
    images = [noise(20, 30, 1, seed=0), noise(41, 23, 3, seed=1)]
    work = [(image, limit, size) for image in images for limit in LIMITS for size in ("fit", "native")] * 4
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda each: session.predict_one(each[0], size=each[2], **each[1]), work))
    for (image, limit, size), prediction in zip(work, found, strict=True):
        alike(prediction, session.predict_one(image, size=size, **limit))


@pytest.mark.child
def test_a_session_prints_nothing(tmp_path):
    path = write_toy(tmp_path / "toy.onnx", toys.ADAPTIVE)
    program = f"from glimpse.runtime.session import GlimpseSession; GlimpseSession({str(path)!r})"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert run.stdout == run.stderr == ""


@pytest.mark.parametrize("threads", [0, -1, 1025, 10**30, True, 1.0, "2", None])
def test_a_number_of_threads_that_is_none_is_refused(tmp_path, threads):
    with pytest.raises(LimitError, match=r"a whole number of threads from 1 to 1024, got .*; 1 is the fastest"):
        unchecked(GlimpseSession.__init__)(object(), tmp_path / "model.onnx", threads=threads)


def test_a_number_of_threads_may_be_one_of_numpy(tmp_path):
    session = GlimpseSession.__new__(GlimpseSession)
    unchecked(GlimpseSession.__init__)(session, write_toy(tmp_path / "toy.onnx", toys.ADAPTIVE), threads=np.int64(2))
    assert session.predict_one(noise(20, 30, 1)).glimpses == 5


@pytest.mark.parametrize("size", [(20, 30), (200, 300)])
@pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
def test_an_array_that_is_mapped_from_a_file_is_native_unless_it_is_to_fit(tmp_path, kinds, graph, size):
    image, session = noise(*size, 1), kinds[graph]
    np.save(tmp_path / "image.npy", image)
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    native, fitted = session.predict_one(image, size="native"), session.predict_one(image)
    assert size == (20, 30) or not np.array_equal(native.probabilities, fitted.probabilities)
    alike(session.predict_one(mapped), native)
    alike(session.predict_one(mapped, size="fit"), fitted)
    np.testing.assert_array_equal(session.predict(mapped[None]).probabilities[0], native.probabilities)
    np.testing.assert_array_equal([glance.probabilities for glance in session.scan(mapped)], native.probabilities)
    with pytest.raises(pixels.ImageError, match=r"got 1 lazy or mapped ones out of 2; .*size='native'"):
        session.predict([mapped, image])


def test_a_graph_for_one_size_says_how_to_hand_it_a_mapped_array(tmp_path):
    session = GlimpseSession(write_toy(tmp_path / "toy.onnx", replace(toys.EPISODE, any_size=False)))
    np.save(tmp_path / "image.npy", noise(50, 50, 1))
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    with pytest.raises(pixels.ImageError, match=r"30 x 20 pixels and nothing else; scale them with size='fit', or"):
        session.predict_one(mapped)
    assert session.predict_one(mapped, size="fit").glimpses == 5
    with pytest.raises(pixels.ImageError, match="nothing else; read them as whole arrays, or export"):
        session.predict_one(ArrayImage(mapped))


def test_a_large_batch_leaves_out_what_is_told_and_answers_alike(tmp_path, monkeypatch):
    session = GlimpseSession(write_toy(tmp_path / "toy.onnx", toys.ADAPTIVE))
    canvases = noise(40, 20, 30, 1)
    levels = np.sort(session.run(canvases).probabilities.max(2).ravel())
    confidence = float(levels[len(levels) // 2])
    calls: list[int] = []
    graph = session._graph

    def counted(given):
        calls.append(len(given["images"]))
        return graph(given)

    monkeypatch.setattr(session, "_graph", counted)
    found = session.run(canvases, confidence=confidence)
    assert calls == sorted(calls, reverse=True)
    assert calls[0] == 40 > calls[-1]
    assert found.glimpses is not None
    assert sum(calls) == found.glimpses.sum()
    calls.clear()
    monkeypatch.setattr(session_module, "SHRINKING", 41)
    alike(found, session.run(canvases, confidence=confidence))
    assert calls == [40]
