import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glimpse.cli.classify.command import predict_fitted, predict_native
from glimpse.cli.classify.images import ImageSource, read_image
from glimpse.drawing import animation, answer, view
from glimpse.images import crop, pixels
from glimpse.images.pixels import ImageError
from glimpse.runtime.prediction import Prediction
from glimpse.runtime.session import GlimpseSession
from tests.support import toys
from tests.support.brightness import MAP_CARD, write_model


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return toys.sessions(tmp_path_factory.mktemp("toys"))


@pytest.fixture
def session(sessions: Any) -> GlimpseSession:
    found: GlimpseSession = sessions["adaptive"]
    return found


def source(path: Path) -> ImageSource:
    return ImageSource(str(path), path)


def test_an_image_is_read_from_standard_input(monkeypatch):
    stream = io.BytesIO()
    Image.new("L", (3, 2), 7).save(stream, "PNG")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(stream.getvalue())))
    image = read_image(ImageSource("-", None))
    assert isinstance(image, np.ndarray)
    assert (image.shape, int(image.max())) == ((2, 3, 1), 7)


def test_images_that_can_be_read_by_parts_are_where_they_are_taken_as_they_are(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((20, 30), np.uint8))
    image = read_image(source(tmp_path / "a.npy"), native=True)
    assert not isinstance(image, np.ndarray)
    assert view.extent(image) == (20, 30)
    with pytest.raises(ImageError, match="is no image that can be read"):
        read_image(source(tmp_path / "a.npy"))
    with pytest.raises(ImageError, match="there is no image"):
        read_image(source(tmp_path / "gone.npy"), native=True)


def test_a_small_tiff_need_not_be_readable_by_parts(tmp_path):
    Image.fromarray(np.full((20, 30), 65535, np.uint16)).save(tmp_path / "a.tif")
    assert view.extent(read_image(source(tmp_path / "a.tif"), native=True)) == (20, 30)
    (tmp_path / "b.tif").write_bytes(b"no TIFF")
    with pytest.raises(ImageError, match=r"b\.tif"):
        read_image(source(tmp_path / "b.tif"), native=True)


@pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
def test_each_look_holds_the_glimpses_that_its_image_took(sessions, graph):
    session, images = sessions[graph], list(toys.noise(12, 20, 30, 1))
    beliefs = np.sort(session.run(np.stack(images)).probabilities.max(-1).ravel())
    confidence = float(beliefs[len(beliefs) // 2])
    looks = predict_fitted(session, images, confidence=confidence)
    taken = [look.on_image.probabilities.shape[1] for look in looks]
    assert len(set(taken)) > 1, "they should stop at several times"
    for image, (on_canvas, on_image), time in zip(images, looks, taken, strict=True):
        alone = session.predict_one(image, confidence=confidence)
        assert on_image.glimpses is not None
        assert on_image.boxes is not None
        assert on_canvas.boxes is not None
        assert (time, on_image.glimpses.tolist()) == (alone.glimpses, [alone.glimpses])
        assert on_image.locations.shape[:2] == on_image.boxes.shape[:2] == on_canvas.boxes.shape[:2] == (1, time)
        np.testing.assert_allclose(on_image.probabilities[0], alone.probabilities, atol=1e-5)


def test_images_of_several_sizes_are_classified_together(session):
    images = [toys.noise(20, 30, 1), toys.noise(40, 60, 3)]
    small, large = predict_fitted(session, images)
    assert large.on_canvas.boxes is not None
    assert large.on_image.boxes is not None
    np.testing.assert_allclose(large.on_image.boxes, 2 * large.on_canvas.boxes, atol=1e-4)
    assert small.on_canvas.probabilities.shape == large.on_canvas.probabilities.shape


def test_an_image_in_its_own_size_is_drawn_with_its_own_pixels(session, tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", toys.noise(90, 70, 3))
    image = read_image(source(tmp_path / "a.npy"), native=True)
    found = predict_native(session, image, max_glimpses=3)
    seen = view.view_of(session, image, found, native=True)
    assert (seen.image.shape, seen.canvas.shape) == ((90, 70, 3), (90, 70, 1))
    assert found.on_image.locations.shape == (1, 3, 2)
    drawn: list[Any] = []

    def remember(*arguments: Any) -> Image.Image:
        drawn.extend(arguments)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(view, "draw_classification", remember)
    view.draw(session, seen)
    first = crop.extract_glimpse(seen.canvas.transpose(2, 0, 1)[None], found.on_image.locations[0, :1], 4, 2, 2)
    np.testing.assert_array_equal(drawn[3][:1], first)
    monkeypatch.setattr(pixels, "MAX_PIXELS", 6000)
    with pytest.raises(ImageError, match=r"at most 6,000 pixels to draw, got 70 x 90; classify it without a picture"):
        view.view_of(session, image, found, native=True)


def test_a_film_has_a_frame_for_each_glimpse_that_was_taken(session):
    image = toys.noise(20, 30, 1)
    (found,) = predict_fitted(session, [image], max_glimpses=3)
    seen = view.view_of(session, image, found)
    frames = view.animate(session, seen)
    assert len(frames) == 3
    assert {frame.size for frame in frames} == {view.draw(session, seen).size}


def test_without_a_gaze_there_is_no_film(session):
    image = toys.noise(20, 30, 1)
    (found,) = predict_fitted(session, [image])
    blind = view.view_of(session, image, found)._replace(on_image=found.on_image._replace(boxes=None))
    with pytest.raises(ValueError, match="one without a gaze to animate"):
        view.animate(session, blind)


@pytest.mark.parametrize(("policy", "size"), [("fit", (30, 20)), ("squash", (15, 30))])
def test_maps_lie_over_the_canvas_or_over_the_whole_of_a_squashed_image(tmp_path, monkeypatch, policy, size):
    session = GlimpseSession(write_model(tmp_path / "model.onnx", replace(MAP_CARD, size_policy=policy)))
    image = toys.noise(80, 40, 1)
    (found,) = predict_fitted(session, [image])
    seen = view.view_of(session, image, found)
    under: list[Any] = []

    def remember(canvas: Any, *_: Any) -> Image.Image:
        under.append(canvas)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(answer, "draw_attention", remember)
    monkeypatch.setattr(animation, "animate_maps", lambda *arguments: [remember(*arguments)])
    view.draw(session, seen)
    view.animate(session, seen)
    assert [shown.shape[1::-1] for shown in under] == [size, size]


def test_windows_are_drawn_as_a_path_that_begins_with_the_whole_image():
    card = replace(MAP_CARD, window=10, height=20, width=40, num_glimpses=3, has_maps=True)
    session: Any = SimpleNamespace(card=card)
    canvas = toys.noise(20, 40, card.channels)
    boxes = np.array([[[[0, 0, 40, 20]], [[30, 0, 40, 10]], [[5, 6, 15, 16]]]], np.float32)
    locations = np.array([[[0, 0], [0.75, -0.5], [-0.5, 0.1]]], np.float32)
    probabilities = np.full((1, 3, len(card.classes)), 1 / len(card.classes), np.float32)
    on_canvas = Prediction(probabilities, locations, boxes, np.full((1, 3, 2, 4), 0.125, np.float32))
    on_image = on_canvas._replace(boxes=2 * boxes)
    seen = view.View(np.repeat(np.repeat(canvas, 2, 0), 2, 1), canvas, on_canvas, on_image)
    sensed = view._sensed(session, seen)
    assert sensed.shape == (3, 1, card.channels, 10, 10)
    assert (sensed[0, 0, :, :2] == 0).all()  # the image is twice as wide as high
    assert sensed[0, 0, :, 4:6].std() > 0
    np.testing.assert_allclose(sensed[1, 0].transpose(1, 2, 0), canvas[:10, 30:] / 255, atol=1e-6)
    np.testing.assert_allclose(sensed[2, 0].transpose(1, 2, 0), canvas[6:16, 5:15] / 255, atol=1e-6)
    picture = view.draw(session, seen)
    frames = view.animate(session, seen)
    assert [frame.size for frame in frames] == [picture.size] * 3
    assert view.draw(session, seen, prefer_maps=True).size != picture.size
    without = seen._replace(on_image=on_image._replace(boxes=None))
    assert view.draw(session, without).size != picture.size  # the maps are drawn instead
    session.card = replace(card, window=None)
    with pytest.raises(ValueError, match="a model with a retina or windows"):
        view.draw(session, seen)
