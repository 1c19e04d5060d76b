from dataclasses import replace

import numpy as np
import pytest

from glimpse.images import pixels
from glimpse.images.lazy import ArrayImage
from glimpse.runtime.session import GlimpseSession
from tests.support import toys
from tests.support.toys import alike, noise, write_toy


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> dict[str, GlimpseSession]:
    return toys.sessions(tmp_path_factory.mktemp("toys"))


def test_sizes_that_go_with_no_image_are_rejected(kinds):
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


def test_the_error_of_a_graph_for_one_size_names_a_way_for_a_mapped_array(tmp_path):
    session = GlimpseSession(write_toy(tmp_path / "toy.onnx", replace(toys.EPISODE, any_size=False)))
    np.save(tmp_path / "image.npy", noise(50, 50, 1))
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    with pytest.raises(pixels.ImageError, match=r"30 x 20 pixels and nothing else; scale them with size='fit', or"):
        session.predict_one(mapped)
    assert session.predict_one(mapped, size="fit").glimpses == 5
    with pytest.raises(pixels.ImageError, match="nothing else; read them as whole arrays, or export"):
        session.predict_one(ArrayImage(mapped))
